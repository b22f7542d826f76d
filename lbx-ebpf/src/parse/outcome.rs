//! What parsing a header ends with, and how a function call returns it.

use lbx_common::drops::DropReason;

/// Why a packet is not parsed further.
#[derive(Clone, Copy)]
pub enum ParseError {
    /// Not a kind of packet lbx balances: passed to the network stack.
    Unsupported,
    /// Its headers contradict each other or the frame.
    Malformed(DropReason),
}

/// The outcome of parsing a header.
pub type ParseResult = Result<(), ParseError>;

// Global functions are checked by the verifier once, on their own: whatever paths lead through one header, for those that
// follow the packet is plain memory. They can only return a number. A call costs more than a header, so only rare headers
// are parsed in one.

const OK: u32 = 0;
/// The code of [`ParseError::Unsupported`].
pub const UNSUPPORTED: u32 = 1;
/// Added to the index of a drop reason.
const MALFORMED: u32 = 2;

/// The code of an outcome.
#[inline(always)]
pub fn to_code(headers: ParseResult) -> u32 {
    match headers {
        Ok(()) => OK,
        Err(ParseError::Unsupported) => UNSUPPORTED,
        Err(ParseError::Malformed(reason)) => MALFORMED + reason.index(),
    }
}

/// The outcome of a code.
#[inline(always)]
pub fn outcome_of_code(code: u32) -> ParseResult {
    if code == OK {
        return Ok(());
    }
    match DropReason::from_index(code.wrapping_sub(MALFORMED)) {
        Some(reason) => Err(ParseError::Malformed(reason)),
        None => Err(ParseError::Unsupported),
    }
}
