//! The legend, which inferno has no way to draw: put in before the end of its SVG.

use std::io::{self, Write};

use super::colors::Class;

const END: &[u8] = b"</svg>";

/// A writer that passes on what it gets but holds back the closing tag, for
/// [`finish`](Self::finish) to write the legend before it.
pub(super) struct Legend<'a> {
    out: &'a mut dyn Write,
    classes: Vec<Class>,
    held: Vec<u8>,
}

impl<'a> Legend<'a> {
    /// A writer to `out` that will add a legend for the classes.
    pub(super) fn new(mut classes: Vec<Class>, out: &'a mut dyn Write) -> Self {
        classes.sort_unstable();
        classes.dedup();
        Self {
            out,
            classes,
            held: Vec::new(),
        }
    }

    /// Writes the legend and the end of the document.
    pub(super) fn finish(self) -> io::Result<()> {
        // Its place is what inferno keeps free below its line with the details.
        write!(
            self.out,
            r#"<svg id="legend" x="10" y="100%" overflow="visible">"#
        )?;
        let mut x = 0;
        for class in self.classes {
            let (color, name) = (class.base_color(), class.name());
            write!(
                self.out,
                r#"<rect x="{x}" y="-13" width="9" height="9" fill="rgb({},{},{})"/><text x="{}" y="-5" style="font-size:10px">{name}</text>"#,
                color.r,
                color.g,
                color.b,
                x + 13,
            )?;
            // A letter is 6 wide in this size.
            x += 13 + 6 * name.len() + 14;
        }
        self.out.write_all(b"</svg>")?;
        self.out.write_all(&self.held)?;
        self.out.write_all(b"\n")
    }
}

impl Write for Legend<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.held.extend_from_slice(bytes);
        let passed = self.held.len().saturating_sub(END.len());
        self.out.write_all(&self.held[..passed])?;
        self.held.drain(..passed);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}
