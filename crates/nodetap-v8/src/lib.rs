//! nodetap-v8
