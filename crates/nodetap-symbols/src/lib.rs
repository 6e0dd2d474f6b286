//! nodetap-symbols
