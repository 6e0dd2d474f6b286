//! V8's version number.

use std::fmt;
use std::str::FromStr;

/// The first two parts of a V8 version: what its memory looks like changes
/// with these.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Version {
    /// 13 of 13.6.233
    pub major: u32,
    /// 6 of 13.6.233
    pub minor: u32,
}

impl Version {
    /// `major.minor`.
    pub const fn new(major: u32, minor: u32) -> Version {
        Version { major, minor }
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

/// Not of the form `13.6.233.17-node.53`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a V8 version")]
pub struct NotAVersion(String);

impl FromStr for Version {
    type Err = NotAVersion;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut parts = text.split('.').map(|part| part.parse().ok());
        match (parts.next().flatten(), parts.next().flatten()) {
            (Some(major), Some(minor)) => Ok(Version { major, minor }),
            _ => Err(NotAVersion(text.to_owned())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_and_ordered() {
        let v: Version = "13.6.233.17-node.53".parse().unwrap();
        assert_eq!(v, Version::new(13, 6));
        assert!(v > Version::new(12, 4) && v < Version::new(13, 10));
        assert!("v13.6".parse::<Version>().is_err());
        assert!("13".parse::<Version>().is_err());
        assert!("".parse::<Version>().is_err());
    }
}
