//! A table of texts, for the formats that name each by its place in one.

use std::collections::HashMap;

/// The distinct texts, in the order in which they were first asked for. The first one is the
/// empty one.
pub(super) struct Strings {
    all: Vec<String>,
    // Texts come from the target, hence the keyed hash.
    numbers: HashMap<String, u32>,
}

impl Default for Strings {
    fn default() -> Self {
        Self {
            all: vec![String::new()],
            numbers: HashMap::from([(String::new(), 0)]),
        }
    }
}

impl Strings {
    /// The place of a text, which is added if it is not there.
    pub fn number(&mut self, text: &str) -> u32 {
        if let Some(&number) = self.numbers.get(text) {
            return number;
        }
        let number = u32::try_from(self.all.len()).expect("four billion texts");
        self.all.push(text.into());
        self.numbers.insert(text.into(), number);
        number
    }

    /// The same as the type that some forms have for it.
    pub fn signed(&mut self, text: &str) -> i64 {
        self.number(text).into()
    }

    /// All of them, by their places.
    pub fn into_all(self) -> Vec<String> {
        self.all
    }
}
