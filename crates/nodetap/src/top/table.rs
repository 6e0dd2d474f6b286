//! The lines of the tables, sorted and filtered.

use std::cmp::{Ordering, Reverse};

use nodetap_profile::Origin;

use super::facts::Snapshot;
use super::state::{Range, State, Tab};
use super::tally::{Count, Usage};

/// What a table can be sorted by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Column {
    /// How often it was on top in the last second.
    OwnRecent,
    /// How often it was on a stack in the last second.
    TotalRecent,
    /// How often it was on top since the start.
    OwnAll,
    /// How often it was on a stack since the start.
    TotalAll,
    /// Its name.
    Name,
    /// Where it is.
    Place,
    /// How much of a CPU it uses.
    Cpu,
    /// How many samples of it there were in the last second.
    Recent,
    /// How many since the start.
    All,
    /// Its number.
    Tid,
}

impl Column {
    /// Which samples it is about.
    pub fn range(self) -> Option<Range> {
        match self {
            Column::OwnRecent | Column::TotalRecent | Column::Recent => Some(Range::Recent),
            Column::OwnAll | Column::TotalAll | Column::All => Some(Range::All),
            Column::Name | Column::Place | Column::Cpu | Column::Tid => None,
        }
    }

    /// The one that says the same of other samples.
    pub fn in_range(self, range: Range) -> Column {
        match (self, range) {
            (Column::OwnRecent | Column::OwnAll, Range::Recent) => Column::OwnRecent,
            (Column::OwnRecent | Column::OwnAll, Range::All) => Column::OwnAll,
            (Column::TotalRecent | Column::TotalAll, Range::Recent) => Column::TotalRecent,
            (Column::TotalRecent | Column::TotalAll, Range::All) => Column::TotalAll,
            (Column::Recent | Column::All, Range::Recent) => Column::Recent,
            (Column::Recent | Column::All, Range::All) => Column::All,
            (other, _) => other,
        }
    }
}

/// What the table of a tab can be sorted by, in the order of its columns.
pub fn columns(tab: Tab) -> &'static [Column] {
    use Column::{All, Cpu, Name, OwnAll, OwnRecent, Place, Recent, Tid, TotalAll, TotalRecent};
    match tab {
        Tab::Functions => &[OwnRecent, TotalRecent, OwnAll, TotalAll, Name, Place],
        Tab::Packages => &[OwnRecent, TotalRecent, OwnAll, TotalAll, Name],
        Tab::Threads => &[Cpu, Recent, All, Tid, Name],
        Tab::Flame => &[],
    }
}

/// A line of the table of functions or packages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line<'a> {
    /// What it is called.
    pub name: &'a str,
    /// Where it is.
    pub place: &'a str,
    /// Whose it is.
    pub origin: Origin,
    /// How often it was met.
    pub usage: Usage,
}

/// A line of the table of threads.
#[derive(Clone, Debug, PartialEq)]
pub struct ThreadLine<'a> {
    /// Its process.
    pub pid: u32,
    /// Its number.
    pub tid: u32,
    /// What it is called.
    pub name: &'a str,
    /// How many percent of a CPU it uses.
    pub cpu: Option<f64>,
    /// How many samples there are of it.
    pub samples: Count,
    /// The function that was met most on its top: name, place, whose.
    pub hottest: Option<(&'a str, &'a str, Origin)>,
}

/// How many lines the table that is shown has.
pub fn length(shown: &Snapshot, state: &State) -> usize {
    match state.tab {
        Tab::Threads => threads(shown, state).len(),
        Tab::Functions | Tab::Packages => lines(shown, state).len(),
        Tab::Flame => 0,
    }
}

/// The lines of the table of functions, or of packages.
pub fn lines<'a>(shown: &'a Snapshot, state: &State) -> Vec<Line<'a>> {
    let tally = &shown.tally;
    let mut lines: Vec<Line<'a>> = match state.tab {
        Tab::Packages => {
            let packages = tally.packages().iter().zip(tally.by_package());
            packages
                .map(|(package, usage)| Line {
                    name: &package.name,
                    place: "",
                    origin: package.origin,
                    usage,
                })
                .collect()
        }
        _ => {
            let functions = tally.functions().iter().zip(tally.by_function());
            functions
                .map(|(function, usage)| Line {
                    name: &function.name,
                    place: &function.place,
                    origin: function.origin,
                    usage,
                })
                .collect()
        }
    };
    lines.retain(|line| line.usage.total.all > 0 && state.passes(line.name, line.place));
    lines.sort_by(|one, other| {
        let order = match state.sort {
            Column::Name => one.name.cmp(other.name),
            Column::Place => one.place.cmp(other.place),
            column => measure(&other.usage, column).cmp(&measure(&one.usage, column)),
        };
        let order = match state.reversed {
            true => order.reverse(),
            false => order,
        };
        order.then_with(|| by_name(one, other))
    });
    lines
}

/// What is compared: where that is equal, what else there was of it.
fn measure(usage: &Usage, column: Column) -> [u64; 4] {
    let Usage { own, total } = usage;
    match column {
        Column::TotalRecent => [total.recent, own.recent, total.all, own.all],
        Column::OwnAll => [own.all, total.all, own.recent, total.recent],
        Column::TotalAll => [total.all, own.all, total.recent, own.recent],
        _ => [own.recent, own.all, total.recent, total.all],
    }
}

fn by_name(one: &Line<'_>, other: &Line<'_>) -> Ordering {
    (one.name, one.place).cmp(&(other.name, other.place))
}

/// The lines of the table of threads.
pub fn threads<'a>(shown: &'a Snapshot, state: &State) -> Vec<ThreadLine<'a>> {
    let functions = shown.tally.functions();
    let mut lines: Vec<ThreadLine<'a>> = shown
        .tally
        .by_thread()
        .into_iter()
        .map(|(thread, samples, hottest)| ThreadLine {
            pid: thread.pid,
            tid: thread.tid,
            name: &thread.name,
            cpu: shown.facts.cpu.get(&(thread.pid, thread.tid)).copied(),
            samples,
            hottest: hottest
                .and_then(|it| functions.get(it as usize))
                .map(|it| (it.name.as_str(), it.place.as_str(), it.origin)),
        })
        .collect();
    lines.retain(|line| {
        let (name, place, _) = line.hottest.unwrap_or(("", "", Origin::Unknown));
        line.samples.all > 0 && (state.passes(line.name, name) || state.passes("", place))
    });
    lines.sort_by(|one, other| {
        let cpu = |line: &ThreadLine<'_>| line.cpu.unwrap_or(0.0);
        let order = match state.thread_sort {
            Column::Recent => other.samples.recent.cmp(&one.samples.recent),
            Column::All => other.samples.all.cmp(&one.samples.all),
            Column::Tid => one.tid.cmp(&other.tid),
            Column::Name => one.name.cmp(other.name),
            _ => cpu(other).total_cmp(&cpu(one)),
        };
        let order = match state.reversed {
            true => order.reverse(),
            false => order,
        };
        order.then_with(|| {
            (Reverse(one.samples.all), one.tid).cmp(&(Reverse(other.samples.all), other.tid))
        })
    });
    lines
}
