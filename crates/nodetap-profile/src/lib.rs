//! nodetap-profile
