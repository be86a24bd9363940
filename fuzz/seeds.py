"""Writes the first seeds of every corpus but tcb_ops: python3 fuzz/seeds.py"""
import os, struct

root = os.path.join(os.path.dirname(os.path.abspath(__file__)), "corpus") + "/"
def csum(b):
    if len(b)%2: b+=b'\0'
    s=sum(struct.unpack('>%dH'%(len(b)//2),b))
    while s>>16: s=(s&0xffff)+(s>>16)
    return ~s&0xffff
A4,B4=bytes([10,0,0,1]),bytes([10,0,0,2])
A6=bytes.fromhex('fd00'+'0'*26+'01'); B6=bytes.fromhex('fd00'+'0'*26+'02')
def tcp(v,seq=1,ack=2,flags=0x10,wnd=500,opts=b'',data=b''):
    doff=5+len(opts)//4
    seg=struct.pack('>HHIIBBHHH',1234,80,seq,ack,doff<<4,flags,wnd,0,0)+opts+data
    ph=(A4+B4+struct.pack('>HH',6,len(seg))) if v==4 else (A6+B6+struct.pack('>II',len(seg),6))
    c=csum(ph+seg)
    return seg[:16]+struct.pack('>H',c)+seg[18:]
def ip4(proto,up,opts=b'',frag=0x4000,src=A4,dst=B4):
    h=struct.pack('>BBHHHBBH',0x45+len(opts)//4,0,20+len(opts)+len(up),0,frag,64,proto,0)+src+dst+opts
    return h[:10]+struct.pack('>H',csum(h))+h[12:]+up
def ip6(nh,up,src=A6,dst=B6):
    return struct.pack('>IHBB',0x60000000,len(up),nh,64)+src+dst+up
def icmp4(b): 
    b=b[:2]+b'\0\0'+b[4:]; return b[:2]+struct.pack('>H',csum(b))+b[4:]
def icmp6(b):
    b=b[:2]+b'\0\0'+b[4:]; return b[:2]+struct.pack('>H',csum(A6+B6+struct.pack('>II',len(b),58)+b))+b[4:]
SYN=bytes.fromhex('020405b40402080a000000010000000001030307')
TS=bytes.fromhex('0101080a0000000a00000014')
SACK=bytes.fromhex('0101051a')+bytes(range(24))
P={}
def add(name,pkt,choice): P[name]=bytes([choice])+pkt
add('v4_syn',ip4(6,tcp(4,flags=2,opts=SYN)),0)
add('v6_synack',ip6(6,tcp(6,flags=0x12,opts=SYN)),0)
add('v4_data',ip4(6,tcp(4,flags=0x18,opts=TS,data=b'GET / HTTP/1.0\r\n\r\n')),0x0c)
add('v6_data',ip6(6,tcp(6,flags=0x18,opts=TS,data=bytes(range(100)))),0x3f)
add('v4_sack',ip4(6,tcp(4,opts=TS+SACK)),3)
add('v6_sack',ip6(6,tcp(6,opts=TS+SACK)),3)
add('v4_rst',ip4(6,tcp(4,flags=4,ack=0)),0)
add('v4_fin_trailing',ip4(6,tcp(4,flags=0x19,data=b'bye'))+b'\0'*6,7)
add('v4_ip_options',ip4(6,tcp(4,opts=TS,data=b'x'*33),opts=b'\x94\x04\0\0'+b'\1'*8),3)
add('v4_fragment',ip4(6,tcp(4),frag=0x2000),1)
add('v4_urgent_ecn',ip4(6,tcp(4,flags=0xff,data=b'urgent!')),0x8f)
add('v6_hopbyhop_dest_routing',ip6(0,bytes([60,0,1,4,0,0,0,0,43,0,1,4,0,0,0,0,6,0,4,0,0,0,0,0])+tcp(6,data=b'ext')),3)
add('v6_fragment',ip6(44,bytes([6,0,0,0,0,0,0,1])+tcp(6)),3)
add('v4_echo',ip4(1,icmp4(b'\x08\0\0\0\x12\x34\0\1'+b'abcdefghi')),0)
add('v6_echo',ip6(58,icmp6(b'\x80\0\0\0\x12\x34\0\1'+b'abcdefghi')),0)
q4=ip4(6,tcp(4,seq=77,data=b'quoted'))
q6=ip6(6,tcp(6,seq=77,data=b'quoted'))
add('v4_unreachable',ip4(1,icmp4(b'\3\3\0\0\0\0\0\0'+q4[:28])),0)
add('v4_frag_needed',ip4(1,icmp4(b'\3\4\0\0\0\0\5\x14'+q4)),0)
add('v4_time_exceeded',ip4(1,icmp4(b'\x0b\0\0\0\0\0\0\0'+q4)),2)
add('v6_too_big',ip6(58,icmp6(b'\2\0\0\0\0\0\5\0'+q6)),0)
add('v6_unreachable',ip6(58,icmp6(b'\1\4\0\0\0\0\0\0'+q6[:48])),2)
add('v4_bad_options',ip4(6,tcp(4,opts=b'\x08\0\0\0')),3)
add('v4_ihl_4',b'\x44'+q4[1:],3)
O={'empty':b'','nops':b'\1'*40,'syn_linux':SYN,'timestamps':TS,'timestamps_sack3':TS+SACK,
'sack4':bytes.fromhex('01010522')+bytes(range(32)),
'syn_bsd':bytes.fromhex('020405b40103030604020 80a0000000100000000'.replace(' ','')),
'syn_windows':bytes.fromhex('020405b4010303080101 0402'.replace(' ','')),
'md5_and_fastopen':bytes([19,18])+bytes(16)+bytes([34,10])+bytes(8)+b'\3\3\7',
'length_zero':b'\2\0','length_one_at_end':b'\1'*38+b'\x08\1','past_end':b'\5\x22'+bytes(20),
'duplicates':bytes.fromhex('020405b4020400640303070303010402 0402'.replace(' ','')),
'scale_255_mss_0':b'\3\3\xff\2\4\0\0','end_then_garbage':b'\0\2\0\0','wrong_lengths':b'\2\3\5\3\4\7\0\4\3\0\x08\3\1',
'unaligned_everything':bytes.fromhex('020405b40303070402080a0000000100000002050a0000000100000002'),
'too_many_blocks':bytes([2,4,5,180,4,2,5,34])+bytes(range(32))}
for n in list(P):
    P[n + '_repaired'] = bytes([P[n][0] | 0x83]) + P[n][1:]
for d,m in (('parse_segment',P),('options_roundtrip',O)):
    for n,b in m.items(): open(root+d+'/'+n,'wb').write(b)
# ring_model: capacity·4, start, start's shift, then operations (kind, a, b); see tests/fuzz_bodies/ring_model.rs.
WRITE, AT, PUBLISH, CONSUME, SLICES, REWIND, TRIM, DISCARD, FILL = range(9)
def ring(cap, start, shift, *ops): return bytes([cap, start, shift]) + b''.join(bytes(o) for o in ops)
R={'write_read':ring(32,0,0,(WRITE,5,0),(SLICES,0,9),(CONSUME,5,0)),
'wrap_even':ring(32,0,0,*[(WRITE,5,0),(CONSUME,4,0),(SLICES,1,9)]*12),
'wrap_odd':ring(28,0,0,*[(WRITE,5,0),(CONSUME,4,0),(SLICES,1,9)]*12),
'one_byte':ring(1,0,0,*[(WRITE,1,0),(CONSUME,1,0)]*5),
'full':ring(255,3,30,(WRITE,255,0),(WRITE,1,0),(CONSUME,1,0),(WRITE,9,0)),
'large':ring(0,0,0,*[(WRITE,200,0),(CONSUME,190,0),(SLICES,3,9)]*8),
'hole_filled':ring(64,1,31,(AT,4,4),(AT,0,4),(PUBLISH,8,0),(SLICES,0,9)),
'hole_stays':ring(64,1,32,(AT,4,4),(PUBLISH,8,0),(REWIND,0,0),(TRIM,0,0),(AT,0,4),(PUBLISH,3,0),(CONSUME,3,0),(REWIND,0,0)),
'hole_discarded':ring(64,1,52,(WRITE,3,0),(CONSUME,3,0),(AT,4,4),(DISCARD,0,0),(TRIM,0,0),(REWIND,0,0),(WRITE,9,0)),
'overlaps':ring(64,1,20,(AT,2,6),(AT,4,8),(AT,0,3),(PUBLISH,99,0),(CONSUME,2,0),(SLICES,1,4)),
'rewind_often':ring(60,0,0,*[(WRITE,9,0),(CONSUME,9,0),(REWIND,0,0)]*6),
'trim_often':ring(60,0,0,*[(WRITE,9,0),(TRIM,0,0),(CONSUME,9,0),(TRIM,0,0)]*6),
'fill_in_place':ring(36,9,40,*[(FILL,6,0),(CONSUME,4,0)]*9),
'fill_over_holes':ring(36,9,40,(WRITE,3,0),(AT,2,2),(FILL,3,0),(PUBLISH,9,0),(SLICES,0,99)),
'mixed':ring(44,255,54,(WRITE,7,0),(AT,1,2),(AT,0,1),(CONSUME,9,0),(PUBLISH,2,0),(FILL,4,0),(REWIND,0,0),(CONSUME,9,0),(REWIND,0,0))}
os.makedirs(root+'ring_model',exist_ok=True)
for n,b in R.items(): open(root+'ring_model/'+n,'wb').write(b)

# assembler_model: five bytes an operation (kind, start, length; kind & 0x80 advances); see tests/fuzz_bodies/assembler_model.rs.
def asm(*ops): return b''.join(bytes([k]) + s.to_bytes(2, 'little') + n.to_bytes(2, 'little') for k, s, n in ops)
INS, ADV, LONG = 0, 0x80, 0x40
A = {
    'one': asm((INS, 5, 3)), 'adjacent': asm((INS, 5, 3), (INS, 8, 3)), 'overlap': asm((INS, 5, 3), (INS, 6, 3)),
    'bridge': asm((INS, 5, 1), (INS, 9, 1), (LONG, 4, 9)), 'duplicate': asm((INS, 5, 3), (INS, 5, 3)),
    'in_order': asm((INS, 0, 3), (ADV, 0, 0)), 'gap_then_fill': asm((INS, 3, 3), (INS, 0, 3), (ADV, 0, 0)),
    'advance_into': asm((LONG, 2, 40), (ADV, 10, 0), (ADV, 50, 0)), 'empty': asm((INS, 7, 0)),
    'comb': asm(*[(INS, 2 * n, 1) for n in range(1, 80)]), 'comb_backwards': asm(*[(INS, 2 * n, 1) for n in range(80, 0, -1)]),
    'comb_then_all': asm(*[(INS, 2 * n, 1) for n in range(1, 64)], (LONG, 0, 1000), (ADV, 1, 0)),
    'near_the_end': asm((LONG, 1000, 1023), (LONG, 1023, 1)),
}
os.makedirs(root + 'assembler_model', exist_ok=True)
for name, data in A.items():
    open(root + 'assembler_model/' + name, 'wb').write(data)
