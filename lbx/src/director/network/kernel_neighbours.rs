//! The kernel's neighbour table as far as lbx keeps it: the MAC addresses of real servers as lbx uses them, so that health checks
//! reach the same hosts, and `ip neighbour` shows them. These entries do not count towards `gc_thresh3`.
//!
//! A task of its own writes them, so that no event waits for the kernel.

use std::{collections::BTreeMap, net::IpAddr};

use tokio::sync::{mpsc, oneshot};

use crate::net::{Keeper, Neighbour, RouteNetlink};

/// A device and a MAC address behind it.
type Binding = (u32, [u8; 6]);

/// The entries that lbx keeps.
#[derive(Debug)]
pub struct KernelNeighbours {
    entries: BTreeMap<IpAddr, Binding>,
    /// Whether the kernel's table may differ from what is wanted.
    has_changed: bool,
    /// Whether the kernel's table has been read: what a former daemon has left is among it.
    adopted: bool,
    writes: mpsc::UnboundedSender<Write>,
    failures: mpsc::UnboundedReceiver<IpAddr>,
}

#[derive(Debug)]
enum Write {
    Set(IpAddr, Binding),
    Remove(IpAddr, u32),
    Flush(oneshot::Sender<()>),
}

impl KernelNeighbours {
    /// Starts the task.
    #[must_use]
    pub fn start(netlink: RouteNetlink) -> Self {
        let (writes, due) = mpsc::unbounded_channel();
        let (failed, failures) = mpsc::unbounded_channel();
        tokio::spawn(write(netlink, due, failed));
        Self {
            entries: BTreeMap::new(),
            has_changed: true,
            adopted: false,
            writes,
            failures,
        }
    }

    /// Takes in an entry of the kernel's table, or that it is gone: what differs from what lbx has written is written again.
    pub fn on_kernel_entry(&mut self, neighbour: &Neighbour) {
        let Neighbour {
            ifindex,
            address,
            mac,
            keeper,
        } = *neighbour;
        if let Some(&(written_to, written)) = self.entries.get(&address)
            && written_to == ifindex
            && (mac != Some(written) || keeper != Keeper::Lbx)
        {
            self.entries.remove(&address);
            self.has_changed = true;
        }
    }

    /// Takes in the kernel's whole table. The first time, what a former daemon has left becomes lbx's again.
    pub fn on_kernel_table(&mut self, present: &[Neighbour]) {
        let ours = present.iter().filter(|neighbour| neighbour.keeper == Keeper::Lbx);
        let ours = ours.filter_map(|entry| Some((entry.address, (entry.ifindex, entry.mac?))));
        let present: BTreeMap<IpAddr, Binding> = ours.collect();
        if std::mem::replace(&mut self.adopted, true) {
            self.entries
                .retain(|address, binding| present.get(address) == Some(binding));
        } else {
            self.entries = present;
        }
        self.has_changed = true;
    }

    /// Other MAC addresses are in use than before.
    pub const fn mark_changed(&mut self) {
        self.has_changed = true;
    }

    /// Has the kernel's table hold these MAC addresses, if it may not.
    pub fn reconcile(&mut self, wanted: impl Iterator<Item = (IpAddr, Binding)>) {
        while let Ok(address) = self.failures.try_recv() {
            self.entries.remove(&address);
            self.has_changed = true;
        }
        if !std::mem::take(&mut self.has_changed) {
            return;
        }
        let mut before = std::mem::take(&mut self.entries);
        for (address, binding) in wanted {
            let written = before.remove(&address);
            if written != Some(binding) {
                if let Some((ifindex, _)) = written.filter(|(ifindex, _)| *ifindex != binding.0) {
                    self.write(Write::Remove(address, ifindex));
                }
                self.write(Write::Set(address, binding));
            }
            self.entries.insert(address, binding);
        }
        for (address, (ifindex, _)) in before {
            self.write(Write::Remove(address, ifindex));
        }
    }

    /// Removes all of them, and waits until they are.
    pub async fn remove_all(&mut self) {
        self.has_changed = true;
        self.reconcile(std::iter::empty());
        let (done, flushed) = oneshot::channel();
        self.write(Write::Flush(done));
        // It ends with the daemon's last task only.
        let _ended = flushed.await;
    }

    fn write(&self, write: Write) {
        // The task ends after its sender.
        let _ended = self.writes.send(write);
    }
}

/// Writes what is due, one after the other; an address that could not be written is reported, to be tried again.
async fn write(netlink: RouteNetlink, mut due: mpsc::UnboundedReceiver<Write>, failed: mpsc::UnboundedSender<IpAddr>) {
    while let Some(write) = due.recv().await {
        let (address, result) = match write {
            Write::Set(address, (ifindex, mac)) => (address, netlink.set_neighbour(ifindex, address, mac).await),
            Write::Remove(address, ifindex) => (address, netlink.remove_neighbour(ifindex, address).await),
            Write::Flush(done) => {
                let _gone = done.send(());
                continue;
            }
        };
        if let Err(error) = result {
            // A NIC that is down is logged elsewhere.
            tracing::debug!(real_server = %address, error = %anyhow::Error::from(error), "neighbour entry not written, retrying");
            let _ended = failed.send(address);
        }
    }
}
