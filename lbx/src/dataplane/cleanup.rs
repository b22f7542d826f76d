//! Removal of every kind of pin a director makes: hooks, egress programs, links to NICs, maps.

use std::{fs, io};

use lbx_common::maps::SOCKET_HOOKS;

use super::{
    DataplaneError,
    error::file_failed,
    local::egress,
    pins::{Pins, entries},
    vip_drop,
};

/// Removes every pin: links first, so that no program runs whose maps have lost their pins. A failure does not stop the
/// removal of the others.
///
/// # Errors
/// The first pin that cannot be removed.
pub(super) fn remove_all(pins: &Pins) -> Result<(), DataplaneError> {
    let mut first = Ok(());
    let mut note = |done: Result<(), DataplaneError>| {
        if first.is_ok() {
            first = done;
        }
    };
    // Socket hooks first: once no socket is steered, egress and ingress have nothing to rewrite.
    for program in SOCKET_HOOKS.iter().rev() {
        note(pins.detach(&pins.hook_link_path(program)));
    }
    match pins.egress_ifindexes() {
        Ok(devices) => devices
            .into_iter()
            .for_each(|device| note(egress::remove(pins, device))),
        Err(error) => note(Err(error)),
    }
    // After the egress filters. Where it was a VIP guard alone that needed clsact, the daemon was killed meanwhile.
    match pins.clsact_ifindexes() {
        Ok(devices) => devices
            .into_iter()
            .for_each(|device| note(vip_drop::remove_left(pins, device))),
        Err(error) => note(Err(error)),
    }
    match pins.linked_ifindexes() {
        Ok(nics) => nics.into_iter().for_each(|nic| note(pins.detach(&pins.link_path(nic)))),
        Err(error) => note(Err(error)),
    }
    match entries(&pins.dir) {
        Ok(left) => left.iter().for_each(|pin| note(pins.remove(pin))),
        Err(error) => note(Err(error)),
    }
    for dir in [&pins.dir, &pins.root] {
        match fs::remove_dir(dir) {
            Err(source) if source.kind() != io::ErrorKind::NotFound => {
                note(Err(file_failed("remove directory", dir)(source)))
            }
            _ => {}
        }
    }
    // The directory shared by all directors is removed with the last of them.
    if let Some(all) = pins.root.parent() {
        let _still_used = fs::remove_dir(all);
    }
    first
}

#[cfg(test)]
mod tests {
    use lbx_common::maps::META;

    use super::*;

    #[test]
    fn removal_goes_on_after_a_failure_and_returns_the_first_error() {
        let root = std::env::temp_dir().join(format!("lbx-pins-{}", std::process::id()));
        let pins = Pins::at(root.clone(), root.join("v"));
        // A directory cannot be detached as a link.
        let folder = pins.hook_link_path(SOCKET_HOOKS[0]);
        fs::create_dir_all(&folder).unwrap();
        fs::write(pins.map_path(META), []).unwrap();
        let failed = remove_all(&pins).unwrap_err();
        assert!(
            matches!(&failed, DataplaneError::File { path, .. } if *path == folder.display().to_string()),
            "{failed:?}"
        );
        assert_eq!(entries(&pins.dir).unwrap(), std::slice::from_ref(&folder));
        fs::remove_dir(folder).unwrap();
        remove_all(&pins).unwrap();
        assert!(!root.exists());
        // Removing nothing is no error.
        remove_all(&pins).unwrap();
    }
}
