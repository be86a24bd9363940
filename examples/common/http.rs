//! A small HTTP server, the same over the kernel's sockets and over usernet's.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;

use bytes::Bytes;
use http_body_util::Full;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};

/// Serves `body` on one connection until the peer closes it.
async fn serve_one<S>(stream: S, body: Bytes)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let service = service_fn(move |_: Request<hyper::body::Incoming>| {
        let body = body.clone();
        async move {
            let mut response = Response::new(Full::new(body));
            let kind = hyper::header::HeaderValue::from_static("application/octet-stream");
            response.headers_mut().insert(hyper::header::CONTENT_TYPE, kind);
            Ok::<_, Infallible>(response)
        }
    });
    if let Err(error) = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await {
        eprintln!("server: {error}");
    }
}

/// The kernel serves: accepts on one of the kernel's listeners for as long as it is polled.
pub async fn serve_on_kernel(listener: tokio::net::TcpListener, body: Bytes) -> io::Result<Infallible> {
    loop {
        let (stream, _): (_, SocketAddr) = listener.accept().await?;
        tokio::spawn(serve_one(stream, body.clone()));
    }
}

/// usernet serves: the same program with other imports.
pub async fn serve_on_usernet(listener: usernet::net::TcpListener, body: Bytes) -> io::Result<Infallible> {
    loop {
        let (stream, _): (_, SocketAddr) = listener.accept().await?;
        tokio::spawn(serve_one(stream, body.clone()));
    }
}
