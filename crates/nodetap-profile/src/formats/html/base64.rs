//! Base64 (RFC 4648), written as the bytes come.

use std::io::{self, Write};

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
/// So many characters go to the writer below at once; a multiple of 4.
const AT_ONCE: usize = 32 << 10;

/// A writer that passes on in base64 what it gets. [`finish`](Self::finish) writes the end.
pub(super) struct Base64Writer<W: Write> {
    out: W,
    /// What has no group of three yet.
    group: [u8; 3],
    filled: usize,
    text: Vec<u8>,
}

impl<W: Write> Base64Writer<W> {
    pub(super) fn new(out: W) -> Self {
        Self {
            out,
            group: [0; 3],
            filled: 0,
            text: Vec::with_capacity(AT_ONCE),
        }
    }

    /// Writes what is left and the padding.
    pub(super) fn finish(mut self) -> io::Result<()> {
        if self.filled > 0 {
            self.group[self.filled..].fill(0);
            let mut last = encode(self.group);
            last[self.filled + 1..].fill(b'=');
            self.text.extend_from_slice(&last);
        }
        self.out.write_all(&self.text)?;
        self.out.flush()
    }
}

/// The four characters of three bytes.
fn encode([a, b, c]: [u8; 3]) -> [u8; 4] {
    let bits = u32::from_be_bytes([0, a, b, c]);
    [18, 12, 6, 0].map(|shift| ALPHABET[(bits >> shift) as usize & 63])
}

impl<W: Write> Write for Base64Writer<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        for &byte in bytes {
            self.group[self.filled] = byte;
            self.filled += 1;
            if self.filled == 3 {
                self.filled = 0;
                self.text.extend_from_slice(&encode(self.group));
                if self.text.len() >= AT_ONCE {
                    self.out.write_all(&self.text)?;
                    self.text.clear();
                }
            }
        }
        Ok(bytes.len())
    }

    /// Passes on whole groups only.
    fn flush(&mut self) -> io::Result<()> {
        self.out.write_all(&self.text)?;
        self.text.clear();
        self.out.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn encoded(pieces: &[&[u8]]) -> String {
        let mut out = Vec::new();
        let mut writer = Base64Writer::new(&mut out);
        for piece in pieces {
            writer.write_all(piece).unwrap();
        }
        writer.finish().unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn the_examples_of_the_rfc() {
        for (bytes, text) in [
            ("", ""),
            ("f", "Zg=="),
            ("fo", "Zm8="),
            ("foo", "Zm9v"),
            ("foob", "Zm9vYg=="),
            ("fooba", "Zm9vYmE="),
            ("foobar", "Zm9vYmFy"),
        ] {
            assert_eq!(encoded(&[bytes.as_bytes()]), text);
        }
        assert_eq!(
            encoded(&[&[0xff, 0xef, 0xbe, 0xfb]]),
            "/+++".to_owned() + "+w=="
        );
    }

    #[test]
    fn pieces_of_any_size_are_the_same() {
        let bytes: Vec<u8> = (0..100_000_u64).map(|i| ((i * i) >> 7) as u8).collect();
        let whole = encoded(&[&bytes]);
        assert_eq!(whole.len(), 100_000_usize.div_ceil(3) * 4);
        for size in [1, 2, 7, 1000, 99_999] {
            let pieces: Vec<&[u8]> = bytes.chunks(size).collect();
            assert_eq!(encoded(&pieces), whole, "{size}");
        }
    }
}
