//! Why a plan cannot be made.

use super::super::allocate::TableFull;
use crate::desired::VirtualService;

/// Why the desired state cannot be reached.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PlanError {
    /// A table is full.
    #[error(transparent)]
    Full(#[from] TableFull),
    /// The scheduler would hash something else while connections depend on the hash.
    #[error(
        "service {0}: scheduler or flags cannot be changed so that it hashes something else while connections depend on what is hashed now: change the scheduler to rr or wrr first, and after the longest timeout to the one you want, or stop lbx"
    )]
    HashInputChanged(VirtualService),
    /// The number of slots cannot change.
    #[error(
        "service {service}: it has {loaded} slots and these cannot become {wanted} while lbx is loaded: remove the service and add it again later, or stop the lbx that loaded it"
    )]
    SlotCountChanged {
        /// The service.
        service: VirtualService,
        /// Slots it has.
        loaded: u32,
        /// Slots the file wants.
        wanted: u32,
    },
}
