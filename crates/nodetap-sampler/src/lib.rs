//! nodetap-sampler
