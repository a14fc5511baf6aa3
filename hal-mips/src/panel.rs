//! What a person sees and presses on the case: lights and buttons.

/// A light, by its meaning; a board may lack any of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, defmt::Format)]
pub enum Led {
    /// The firmware runs.
    Power,
    /// The internet line has an address.
    Wan,
    /// Something moves on the LAN.
    Lan,
    /// The wireless link is up.
    Air,
    /// A neighbour is there.
    Peer,
}

impl Led {
    /// All of them, in the order of their [`index`](Self::index).
    pub const ALL: [Self; 5] = [Self::Power, Self::Wan, Self::Lan, Self::Air, Self::Peer];

    /// Its place in [`ALL`](Self::ALL).
    pub const fn index(self) -> usize {
        match self {
            Self::Power => 0,
            Self::Wan => 1,
            Self::Lan => 2,
            Self::Air => 3,
            Self::Peer => 4,
        }
    }
}

/// Lights.
pub trait Leds {
    /// Switches one; a light that the board lacks is none.
    fn set(&mut self, led: Led, on: bool);
}

/// A button.
#[derive(Clone, Copy, Debug, PartialEq, Eq, defmt::Format)]
pub enum Button {
    /// The one behind the pin hole.
    Reset,
}

/// Buttons.
pub trait Buttons {
    /// Whether it is down now; not debounced. One that the board lacks never is.
    fn is_pressed(&mut self, button: Button) -> bool;
}

/// For boards without buttons.
#[derive(Clone, Copy, Debug)]
pub struct NoButtons;

impl Buttons for NoButtons {
    fn is_pressed(&mut self, button: Button) -> bool {
        match button {
            Button::Reset => false,
        }
    }
}
