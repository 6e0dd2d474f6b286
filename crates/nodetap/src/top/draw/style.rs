//! Colours: those of the terminal's own sixteen, so that they suit its background.

use nodetap_profile::Origin;
use ratatui::style::{Color, Modifier, Style};

/// Whether there are colours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Colours {
    /// As many as a terminal has at least.
    Sixteen,
    /// `NO_COLOR`: weight and inversion have to do.
    None,
}

impl Colours {
    fn with(self, colour: Color) -> Style {
        match self {
            Colours::Sixteen => Style::new().fg(colour),
            Colours::None => Style::new(),
        }
    }

    /// What matters less.
    pub fn dim(self) -> Style {
        match self {
            Colours::Sixteen => Style::new().fg(Color::DarkGray),
            Colours::None => Style::new().add_modifier(Modifier::DIM),
        }
    }

    /// What matters.
    pub fn bold(self) -> Style {
        Style::new().add_modifier(Modifier::BOLD)
    }

    /// What is selected, or where one is.
    pub fn inverse(self) -> Style {
        Style::new().add_modifier(Modifier::REVERSED)
    }

    /// What deserves a look.
    pub fn warning(self) -> Style {
        self.with(Color::Yellow).add_modifier(Modifier::BOLD)
    }

    /// The name of a key.
    pub fn key(self) -> Style {
        self.with(Color::Cyan).add_modifier(Modifier::BOLD)
    }

    /// The name of something whose code is of this origin.
    pub fn name(self, origin: Origin) -> Style {
        match origin {
            Origin::Own => self.bold(),
            Origin::Unknown | Origin::Waiting => self.dim(),
            other => self.with(colour(other)),
        }
    }

    /// A cell of the flame graph; neighbours take turns.
    pub fn cell(self, origin: Origin, is_odd: bool) -> Style {
        match self {
            Colours::None => Style::new(),
            Colours::Sixteen => {
                let plain = colour(origin);
                let background = if is_odd { plain } else { bright(plain) };
                Style::new().fg(Color::Black).bg(background)
            }
        }
    }
}

fn colour(origin: Origin) -> Color {
    match origin {
        Origin::Own => Color::Green,
        Origin::Dependency => Color::Cyan,
        Origin::Node => Color::Blue,
        Origin::V8 => Color::Magenta,
        Origin::GarbageCollector => Color::Red,
        Origin::Native => Color::Yellow,
        Origin::Kernel => Color::LightRed,
        Origin::Waiting | Origin::Unknown => Color::Gray,
    }
}

fn bright(colour: Color) -> Color {
    match colour {
        Color::Green => Color::LightGreen,
        Color::Cyan => Color::LightCyan,
        Color::Blue => Color::LightBlue,
        Color::Magenta => Color::LightMagenta,
        Color::Red => Color::LightRed,
        Color::Yellow => Color::LightYellow,
        Color::Gray => Color::White,
        other => other,
    }
}
