//! `segment_arrives_when_<state>`: one table a state, whole answers compared.
