//! V8's variable-length numbers: seven bits a byte, least significant first,
//! the top bit set where more follow (`src/base/vlq.h`).

/// Reads one number after another.
pub struct Vlq<'a> {
    bytes: &'a [u8],
}

impl<'a> Vlq<'a> {
    /// From the start of `bytes`.
    pub fn new(bytes: &'a [u8]) -> Vlq<'a> {
        Vlq { bytes }
    }

    /// The next unsigned number; `None` at the end, or where it is cut off.
    pub fn unsigned(&mut self) -> Option<u64> {
        self.number(|byte| (byte & 0x7f, byte & 0x80 != 0))
    }

    /// The same where the lowest bit is set where more bytes follow, as in
    /// translations until V8 8 (`TranslationBuffer::Add` in
    /// `src/deoptimizer.cc`).
    pub fn unsigned_low(&mut self) -> Option<u64> {
        self.number(|byte| (byte >> 1, byte & 1 != 0))
    }

    fn number(&mut self, split: impl Fn(u8) -> (u8, bool)) -> Option<u64> {
        let mut value = 0;
        for (index, &byte) in self.bytes.iter().enumerate().take(10) {
            let (bits, more) = split(byte);
            value |= u64::from(bits) << (7 * index).min(63);
            if !more {
                self.bytes = &self.bytes[index + 1..];
                return Some(value);
            }
        }
        self.bytes = &[];
        None
    }

    /// How many bytes are left to read.
    pub fn left(&self) -> usize {
        self.bytes.len()
    }

    /// The signed number that an unsigned one stands for: its lowest bit is
    /// the sign, the rest the magnitude (`VLQEncode` in `src/base/vlq.h`).
    pub fn signed(value: u64) -> i64 {
        let magnitude = (value >> 1) as i64;
        if value & 1 == 0 {
            magnitude
        } else {
            -magnitude
        }
    }

    /// The signed number that an unsigned one stands for (zig-zag encoding).
    pub fn zigzag(value: u64) -> i64 {
        (value >> 1) as i64 ^ -((value & 1) as i64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_read_in_order_and_a_torn_one_ends_them() {
        let mut bytes = Vlq::new(&[0x05, 0x80, 0x01, 0xff, 0xff, 0x03, 0x80]);
        assert_eq!(bytes.unsigned(), Some(5));
        assert_eq!(bytes.unsigned(), Some(128));
        assert_eq!(bytes.unsigned(), Some(0xffff));
        assert_eq!(bytes.unsigned(), None);
        assert_eq!(bytes.unsigned(), None);
        assert_eq!(Vlq::new(&[0x80; 32]).unsigned(), None);
    }

    #[test]
    fn the_continuation_bit_may_be_the_lowest() {
        let mut bytes = Vlq::new(&[0x0a, 0x01, 0x02, 0xff]);
        assert_eq!(bytes.unsigned_low(), Some(5));
        assert_eq!(bytes.unsigned_low(), Some(128));
        assert_eq!(bytes.unsigned_low(), None);
    }

    #[test]
    fn zigzag_alternates_signs() {
        assert_eq!([0, 1, 2, 3].map(Vlq::zigzag), [0, -1, 1, -2]);
        assert_eq!([0, 1, 2, 3].map(Vlq::signed), [0, 0, 1, -1]);
        assert_eq!(Vlq::signed(u64::MAX), -(i64::MAX));
    }
}
