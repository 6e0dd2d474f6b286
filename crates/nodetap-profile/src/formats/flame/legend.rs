//! The legend, which inferno has no way to draw, and styles: put in before the end of its
//! SVG.

use std::io::{self, Write};

use super::colors::Class;

const END: &[u8] = b"</svg>";

/// Inferno's own styles come before: its button for searching can hardly be seen, and all is
/// light. Frames keep their colours in the dark, which black text can be read on.
const STYLE: &str = "<style>
#search { opacity:1; }
@media (prefers-color-scheme:dark) {
svg { background:#18181b; }
#background stop { stop-color:#18181b; }
#title, #subtitle, #details, #unzoom, #search, #matched, #legend text { fill:#f4f4f5; }
#frames > *:hover { stroke:white; }
}
</style>";

/// A writer that passes on what it gets but holds back the closing tag, for
/// [`finish`](Self::finish) to write the legend before it.
pub(crate) struct Legend<'a> {
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

    /// The same without a legend: styles alone.
    pub(crate) fn none(out: &'a mut dyn Write) -> Self {
        Self::new(Vec::new(), out)
    }

    /// Writes the legend and the end of the document.
    pub(crate) fn finish(self) -> io::Result<()> {
        self.out.write_all(STYLE.as_bytes())?;
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
