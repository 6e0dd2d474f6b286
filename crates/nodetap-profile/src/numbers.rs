//! Numbers as few bytes: seven bits a byte, the lowest first; the highest bit: another one
//! follows.

/// Appends a number.
pub(crate) fn encode(to: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        to.push(number as u8 | 0x80);
        number >>= 7;
    }
    to.push(number as u8);
}

/// Appends what is to be added to `before` to get `after`. The sign goes to the lowest bit:
/// small steps of either sign are short.
pub(crate) fn encode_step(to: &mut Vec<u8>, before: u64, after: u64) {
    let step = after.wrapping_sub(before).cast_signed();
    encode(to, ((step << 1) ^ (step >> 63)).cast_unsigned());
}

/// Undoes [`encode_step`], whose number `step` is.
pub(crate) fn after_step(before: u64, step: u64) -> u64 {
    before.wrapping_add_signed((step >> 1).cast_signed() ^ -((step & 1).cast_signed()))
}

/// Bytes that are taken from the front; `None` where there are not enough, or they are no
/// number.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bytes<'a>(pub(crate) &'a [u8]);

impl<'a> Bytes<'a> {
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn byte(&mut self) -> Option<u8> {
        let (&byte, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(byte)
    }

    pub(crate) fn take(&mut self, len: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        Some(taken)
    }

    pub(crate) fn number(&mut self) -> Option<u64> {
        let mut number = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            // Of the tenth byte one bit has room.
            if shift == 63 && byte > 1 {
                return None;
            }
            number |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Some(number);
            }
        }
        None
    }

    pub(crate) fn number32(&mut self) -> Option<u32> {
        u32::try_from(self.number()?).ok()
    }

    /// A number that is a length of something.
    pub(crate) fn length(&mut self) -> Option<usize> {
        usize::try_from(self.number()?).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_come_back() {
        let all = [0, 1, 127, 128, 300, 1 << 32, u64::MAX - 1, u64::MAX];
        let mut bytes = Vec::new();
        for number in all {
            encode(&mut bytes, number);
        }
        let mut from = Bytes(&bytes);
        for number in all {
            assert_eq!(from.number(), Some(number));
        }
        assert!(from.is_empty());
        assert_eq!(from.number(), None);
        assert_eq!(
            Bytes(&bytes[bytes.len() - 9..]).number(),
            Some(u64::MAX >> 7)
        );
    }

    #[test]
    fn steps_lead_back_and_forth() {
        for (before, after) in [(0, 0), (5, 3), (0, u64::MAX), (u64::MAX, 0), (1, 1 << 40)] {
            let mut bytes = Vec::new();
            encode_step(&mut bytes, before, after);
            let step = Bytes(&bytes).number().unwrap();
            assert_eq!(after_step(before, step), after);
        }
        let mut bytes = Vec::new();
        encode_step(&mut bytes, 1000, 990);
        assert_eq!(bytes.len(), 1);
    }

    #[test]
    fn what_is_no_number_is_none() {
        assert_eq!(Bytes(&[0x80]).number(), None);
        assert_eq!(Bytes(&[0x80; 20]).number(), None);
        assert_eq!(Bytes(&[0xff; 10]).number(), None);
        assert_eq!(Bytes(&[0xff, 0xff, 0xff, 0xff, 0x1f]).number32(), None);
        assert_eq!(Bytes(&[1, 2]).take(3), None);
    }
}
