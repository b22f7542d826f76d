//! IPv6 extension headers (RFC 8200 section 4, RFC 4302).

use super::Frame;

/// Hop-by-hop options.
pub const HOP_BY_HOP: u8 = 0;
/// Routing.
pub const ROUTING: u8 = 43;
/// Fragment.
pub const FRAGMENT: u8 = 44;
/// Authentication.
pub const AUTHENTICATION: u8 = 51;
/// No next header: nothing follows.
pub const NO_NEXT_HEADER: u8 = 59;
/// Destination options.
pub const DESTINATION_OPTIONS: u8 = 60;

/// Octets that extension headers are a multiple of.
const UNIT: usize = 8;

/// An extension header; what follows it is not its own business.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Extension {
    /// One that nobody on the way has to do anything about.
    Inert {
        kind: u8,
        units: u8,
        /// What it says of its length; computed if it tells no lie.
        length: Option<u8>,
    },
    /// A fragment header: offset in units of eight bytes, and whether more follow.
    Fragment { offset: u16, more: bool },
}

impl Extension {
    pub fn kind(&self) -> u8 {
        match self {
            Self::Inert { kind, .. } => *kind,
            Self::Fragment { .. } => FRAGMENT,
        }
    }

    /// The header, in front of one of a kind, in a packet of an identification.
    pub fn bytes(&self, next: u8, identification: u32) -> Vec<u8> {
        match *self {
            Self::Inert { kind, units, length } => {
                let mut header = vec![next, length.unwrap_or_else(|| honest_length(kind, units))];
                header.extend(content(kind, usize::from(units) * UNIT - 2));
                header
            }
            Self::Fragment { offset, more } => {
                let field = (offset << 3 | u16::from(more)).to_be_bytes();
                [&[next, 0], field.as_slice(), &identification.to_be_bytes()].concat()
            }
        }
    }
}

/// The length field of a header of so many units: AH counts words, the others units, and each leaves out what it always has.
fn honest_length(kind: u8, units: u8) -> u8 {
    if kind == AUTHENTICATION {
        units * 2 - 2
    } else {
        units - 1
    }
}

/// What stands behind the length.
fn content(kind: u8, length: usize) -> Vec<u8> {
    match kind {
        // One option of padding (PadN).
        HOP_BY_HOP | DESTINATION_OPTIONS => {
            let mut option = vec![1, (length - 2) as u8];
            option.resize(length, 0);
            option
        }
        // Of an unused type (253, RFC 4727), no segments left: whoever does not know it goes on.
        ROUTING => {
            let mut routing = vec![253, 0];
            routing.resize(length, 0);
            routing
        }
        _ => vec![0; length],
    }
}

impl Frame {
    /// The same with an extension header more, of a kind and so many units of eight bytes: behind those it has, before what
    /// the packet carries.
    #[must_use]
    pub fn behind(self, kind: u8, units: u8) -> Self {
        self.with_extension(kind, units, None)
    }

    /// A lie: an extension header of one unit that says it has another length, in its kind's way of counting.
    #[must_use]
    pub fn behind_lying(self, kind: u8, length: u8) -> Self {
        self.with_extension(kind, 1, Some(length))
    }

    fn with_extension(self, kind: u8, units: u8, length: Option<u8>) -> Self {
        self.with_ip(|ip| ip.extensions.push(Extension::Inert { kind, units, length }))
    }
}
