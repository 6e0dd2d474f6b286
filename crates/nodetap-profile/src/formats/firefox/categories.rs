//! Whose code a frame is, as the profiler's categories: their colours, and what is finer.

use rustc_hash::FxHashMap;
use serde::{Serialize, Serializer};

use crate::label::visible;
use crate::{Frame, Kind, Origin, Tier};

/// The categories, [`Origin`]s by their order, and the subcategories of each.
pub(super) struct Categories {
    subcategories: Vec<Subcategories>,
}

#[derive(Default)]
struct Subcategories {
    names: Vec<String>,
    numbers: FxHashMap<String, u32>,
}

impl Categories {
    /// All of them, without subcategories but the one that each has to have.
    pub fn new() -> Self {
        let mut categories = Self {
            subcategories: Vec::new(),
        };
        for _ in Origin::ALL {
            let mut subcategories = Subcategories::default();
            subcategories.number("Other");
            categories.subcategories.push(subcategories);
        }
        categories
    }

    /// Category and subcategory of a frame.
    pub fn of(&mut self, frame: &Frame) -> (usize, u32) {
        let category = number(Origin::of(frame));
        let subcategory = match subcategory(frame) {
            Some(name) => self.subcategories[category].number(&name),
            None => 0,
        };
        (category, subcategory)
    }
}

/// The number of the category that an origin is.
pub(super) fn number(origin: Origin) -> usize {
    let place = Origin::ALL.into_iter().position(|it| it == origin);
    place.expect("all of them are there")
}

/// The package where the category is all of them; else the tier.
fn subcategory(frame: &Frame) -> Option<String> {
    if Origin::of(frame) == Origin::Dependency
        && let Some(package) = &frame.package
    {
        return Some(visible(&package.label()));
    }
    let name = match (frame.kind, frame.tier?) {
        (Kind::Js, Tier::Interpreted) => "interpreted",
        (Kind::Js, Tier::Baseline) => "baseline",
        (Kind::Js, Tier::Maglev) => "maglev",
        (Kind::Js, Tier::Optimized) => "optimized",
        (Kind::Js, Tier::Unoptimized) => "unoptimized",
        _ => return None,
    };
    Some(name.into())
}

/// A colour of those that the profiler has. One category has to be grey: what has none.
fn color(origin: Origin) -> &'static str {
    match origin {
        Origin::Own => "green",
        Origin::Dependency => "yellow",
        Origin::Node => "lightblue",
        Origin::V8 => "purple",
        Origin::GarbageCollector => "orange",
        Origin::Native => "brown",
        Origin::Kernel => "magenta",
        Origin::Waiting => "transparent",
        Origin::Unknown => "grey",
    }
}

impl Subcategories {
    fn number(&mut self, name: &str) -> u32 {
        if let Some(&number) = self.numbers.get(name) {
            return number;
        }
        let number = u32::try_from(self.names.len()).expect("no more than frames");
        self.names.push(name.into());
        self.numbers.insert(name.into(), number);
        number
    }
}

impl Serialize for Categories {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let all = Origin::ALL.into_iter().zip(&self.subcategories);
        serializer.collect_seq(all.map(|(origin, subcategories)| Category {
            name: origin.name(),
            color: color(origin),
            subcategories: &subcategories.names,
        }))
    }
}

#[derive(Serialize)]
struct Category<'a> {
    name: &'static str,
    color: &'static str,
    subcategories: &'a [String],
}
