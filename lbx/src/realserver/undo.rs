//! Undoes what a real server has applied: VIPs leave lo, sysctls get their former values back.

use std::{collections::BTreeSet, net::IpAddr};

use super::{
    RealServerError,
    observe::observe,
    rules::required_sysctl_value,
    state::Store,
    sysctl::{self, Setting},
};
use crate::{
    kernel,
    net::{InterfaceAddress, RouteNetlink, namespace_id},
    preflight::{NET_ADMIN, require_capabilities},
};

/// Removes VIPs that an lbx added to lo, with their routes; returns how many there were. `added` are those by the states, which count
/// where addresses carry no origin.
///
/// # Errors
/// lo cannot be read, or the kernel refuses a removal.
pub(super) async fn remove_vips_from_lo(
    net: &RouteNetlink,
    vips: &[IpAddr],
    added: &BTreeSet<IpAddr>,
) -> Result<usize, RealServerError> {
    let observed = observe(net).await?;
    for vip in vips {
        if let IpAddr::V4(vip) = vip {
            net.remove_host_route(observed.lo_ifindex, *vip).await?;
        }
    }
    let on_lo = |address: &&InterfaceAddress| address.ifindex == observed.lo_ifindex && vips.contains(&address.address);
    let has_origins = kernel::has_address_origins();
    let with_origin = |address: &InterfaceAddress| InterfaceAddress {
        added_by_lbx: address.added_by_lbx || (!has_origins && added.contains(&address.address)),
        ..*address
    };
    let on_lo: Vec<_> = observed.addresses.iter().filter(on_lo).map(with_origin).collect();
    let mut removed = 0;
    for (
        InterfaceAddress {
            address, prefix_len, ..
        },
        was_there,
    ) in net.remove_vips(&on_lo).await
    {
        if was_there? {
            tracing::info!("removed {address}/{prefix_len} from lo");
            removed += 1;
        }
    }
    Ok(removed)
}

/// What undoing has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UndoSummary {
    /// VIPs removed from lo.
    pub vips_removed: usize,
    /// Sysctls set back.
    pub sysctls_restored: usize,
}

/// Restores what a real server of this name found; `None` if there was nothing to undo.
///
/// # Errors
/// CAP_NET_ADMIN is missing, another process has this name, or a change failed; the state is kept then.
pub async fn undo(net: &RouteNetlink, name: &str) -> Result<Option<UndoSummary>, RealServerError> {
    require_capabilities(&[NET_ADMIN])?;
    let store = Store::open(name, namespace_id()?)?;
    let Some(mut state) = store.load()? else {
        return Ok(None);
    };
    let others = store.load_others()?;
    // The reverse of applying: the VIP is gone before ARP answers for any address again.
    let own: Vec<_> = state.unshared_vips(&others).collect();
    let mut undone = UndoSummary {
        vips_removed: remove_vips_from_lo(net, &own, &state.vips_added_by_any(&others)).await?,
        sysctls_restored: 0,
    };
    state.added_vips.retain(|vip| !own.contains(vip));
    if others.iter().any(|other| !other.vips.is_empty()) {
        tracing::info!(
            "ARP sysctls kept: a real server of another --name needs them, and restores them when it is undone"
        );
        state.vips.clear();
        store.save(&state)?;
        return Ok(Some(undone));
    }
    for setting in state.sysctls_to_restore(&others) {
        undone.sysctls_restored += usize::from(restore(&setting)?);
    }
    store.delete()?;
    Ok(Some(undone))
}

/// Restores a sysctl, unless its value is no longer the one that lbx set: then another process changed it since.
fn restore(setting: &Setting) -> Result<bool, RealServerError> {
    let ours = sysctl::read_one(&setting.nic_or_all, setting.key)? == Some(required_sysctl_value(setting.key));
    if ours {
        sysctl::write(setting)?;
        tracing::info!("restored {setting}");
    } else {
        tracing::info!("sysctl changed by another process and left as it is; before lbx: {setting}");
    }
    Ok(ours)
}
