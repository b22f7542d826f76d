//! Driver, queues and offload features of a NIC. Features go by the names `ethtool -k` has for them in the kernel (netdev_features_strings,
//! net/ethtool/common.c): the ioctl that is older than every kernel lbx runs on.

use std::{io, os::fd::AsRawFd, os::fd::OwnedFd};

use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};

use super::NetError;

/// The NIC takes the 802.1Q tag out of a frame and passes it in the descriptor, where an XDP program does not see it.
pub const RX_VLAN: &str = "rx-vlan-hw-parse";
/// The same for tags of 802.1ad.
pub const RX_SERVICE_VLAN: &str = "rx-vlan-stag-hw-parse";
/// The NIC merges packets in a way that cannot be undone (large receive offload).
pub const LRO: &str = "rx-lro";

/// The NIC merges packets of a flow in a way that can be undone (hardware GRO).
pub const GRO_HW: &str = "rx-gro-hw";

/// The kernel merges packets of a flow (generic receive offload).
pub const GRO: &str = "rx-gro";

/// Requests of include/uapi/linux/ethtool.h.
const GET_DRIVER_INFO: u32 = 0x03;
const GET_STRINGS: u32 = 0x1b;
const GET_SET_INFO: u32 = 0x37;
const GET_FEATURES: u32 = 0x3a;
const SET_FEATURES: u32 = 0x3b;
const GET_CHANNELS: u32 = 0x3c;
/// The string set with the names of features.
const FEATURES: u32 = 4;
/// Bytes of a name.
const NAME_LEN: usize = 32;
/// Words of `struct ethtool_drvinfo`: the command, names of 32 bytes (driver, version, firmware, bus, expansion ROM), 12 bytes
/// reserved, five numbers.
const DRIVER_INFO_WORDS: usize = 1 + 5 * 8 + 3 + 5;
/// IFNAMSIZ.
const INTERFACE_LEN: usize = 16;

/// The state of a feature.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Feature {
    /// It is on.
    pub on: bool,
    /// It can be turned on and off.
    pub changeable: bool,
}

/// Queues of a NIC, as `ethtool -l` shows them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Channels {
    /// Queues that can receive alone at most.
    pub max_rx: u32,
    /// Queues that can send alone at most.
    pub max_tx: u32,
    /// Queues that can do both at most.
    pub max_combined: u32,
    /// Queues that receive alone.
    pub rx: u32,
    /// Queues that send alone.
    pub tx: u32,
    /// Queues that do both.
    pub combined: u32,
}

/// `struct ifreq` for SIOCETHTOOL.
#[repr(C)]
struct Request {
    interface: [u8; INTERFACE_LEN],
    data: *mut u32,
    /// The union is larger than a pointer.
    rest: [u64; 2],
}

/// The features of one NIC.
#[derive(Debug)]
pub struct Ethtool {
    socket: OwnedFd,
    interface: String,
}

impl Ethtool {
    /// Opens a socket for a NIC of the calling thread's network namespace.
    ///
    /// # Errors
    /// The socket cannot be opened.
    pub fn of(interface: &str) -> Result<Self, NetError> {
        let socket =
            socket(AddressFamily::Inet, SockType::Datagram, SockFlag::SOCK_CLOEXEC, None).map_err(|errno| {
                NetError::Socket {
                    kind: "UDP",
                    source: errno.into(),
                }
            })?;
        Ok(Self {
            socket,
            interface: interface.to_owned(),
        })
    }

    /// The state of a feature; none if the kernel does not know it.
    ///
    /// # Errors
    /// The NIC is gone.
    pub fn feature(&self, name: &str) -> Result<Option<Feature>, NetError> {
        let read = || -> io::Result<_> {
            let names = self.names()?;
            let Some(bit) = names.iter().position(|known| known == name) else {
                return Ok(None);
            };
            // Per 32 features four words: available, requested, active, never changed.
            let blocks = names.len().div_ceil(32);
            let mut buffer = vec![0; 2 + 4 * blocks];
            buffer[..2].copy_from_slice(&[GET_FEATURES, blocks as u32]);
            self.ioctl(&mut buffer)?;
            let block = &buffer[2 + 4 * (bit / 32)..];
            let is_set = |word: u32| word & 1 << (bit % 32) != 0;
            Ok(Some(Feature {
                on: is_set(block[2]),
                changeable: is_set(block[0]) && !is_set(block[3]),
            }))
        };
        read().map_err(NetError::refused(format!(
            "read the feature {name} of {}",
            self.interface
        )))
    }

    /// The name of the driver.
    ///
    /// # Errors
    /// The NIC is gone, or its driver has no name.
    pub fn driver(&self) -> Result<String, NetError> {
        let read = || -> io::Result<String> {
            let mut buffer = vec![0; DRIVER_INFO_WORDS];
            buffer[0] = GET_DRIVER_INFO;
            self.ioctl(&mut buffer)?;
            let bytes: Vec<u8> = buffer[1..].iter().flat_map(|word| word.to_ne_bytes()).collect();
            Ok(text(&bytes[..NAME_LEN]))
        };
        read().map_err(NetError::refused(format!("read the driver of {}", self.interface)))
    }

    /// The queues.
    ///
    /// # Errors
    /// The NIC is gone, or its driver does not say.
    pub fn channels(&self) -> Result<Channels, NetError> {
        let read = || -> io::Result<Channels> {
            let mut buffer = [GET_CHANNELS, 0, 0, 0, 0, 0, 0, 0, 0];
            self.ioctl(&mut buffer)?;
            let [_, max_rx, max_tx, _, max_combined, rx, tx, _, combined] = buffer;
            Ok(Channels {
                max_rx,
                max_tx,
                max_combined,
                rx,
                tx,
                combined,
            })
        };
        read().map_err(NetError::refused(format!("read the queues of {}", self.interface)))
    }

    /// Turns a feature on or off.
    ///
    /// # Errors
    /// The NIC is gone or cannot, or CAP_NET_ADMIN is missing.
    pub fn set(&self, name: &str, on: bool) -> Result<(), NetError> {
        let set = || -> io::Result<()> {
            let names = self.names()?;
            let unknown = || io::Error::from_raw_os_error(libc::EOPNOTSUPP);
            let bit = names.iter().position(|known| known == name).ok_or_else(unknown)?;
            // Per 32 features two words: mask and values.
            let blocks = names.len().div_ceil(32);
            let mut buffer = vec![0; 2 + 2 * blocks];
            buffer[..2].copy_from_slice(&[SET_FEATURES, blocks as u32]);
            let mask = 1 << (bit % 32);
            buffer[2 + 2 * (bit / 32)] = mask;
            buffer[3 + 2 * (bit / 32)] = if on { mask } else { 0 };
            // A positive result means that the kernel did only part of the request.
            match self.ioctl(&mut buffer)? {
                0 => Ok(()),
                _ => Err(unknown()),
            }
        };
        let state = if on { "on" } else { "off" };
        set().map_err(NetError::refused(format!("turn {name} {state} on {}", self.interface)))
    }

    /// The names of all features, each at the index of its bit.
    fn names(&self) -> io::Result<Vec<String>> {
        // Command, reserved, a mask of string sets in two words, the number of strings.
        let mut buffer = vec![GET_SET_INFO, 0, 0, 0, 0];
        let mask = (1_u64 << FEATURES).to_ne_bytes();
        let (words, _) = mask.as_chunks();
        for (word, bytes) in buffer[2..4].iter_mut().zip(words) {
            *word = u32::from_ne_bytes(*bytes);
        }
        self.ioctl(&mut buffer)?;
        let count = buffer[4] as usize;
        let mut buffer = vec![0; 3 + count * NAME_LEN / size_of::<u32>()];
        buffer[..3].copy_from_slice(&[GET_STRINGS, FEATURES, count as u32]);
        self.ioctl(&mut buffer)?;
        let bytes: Vec<u8> = buffer[3..].iter().flat_map(|word| word.to_ne_bytes()).collect();
        Ok(bytes.chunks(NAME_LEN).map(text).collect())
    }

    /// One request; the answer is in the buffer. The buffer must be as long as its first words say.
    fn ioctl(&self, buffer: &mut [u32]) -> io::Result<i32> {
        let mut interface = [0; INTERFACE_LEN];
        let name = self.interface.as_bytes();
        if name.len() >= INTERFACE_LEN {
            return Err(io::Error::from_raw_os_error(libc::ENODEV));
        }
        interface[..name.len()].copy_from_slice(name);
        let mut request = Request {
            interface,
            data: buffer.as_mut_ptr(),
            rest: [0; 2],
        };
        // SAFETY: the request names a terminated interface and a buffer that is borrowed for the call; every caller here
        // has made it as long as the command and the count in it say.
        let answer = unsafe {
            libc::ioctl(
                self.socket.as_raw_fd(),
                libc::SIOCETHTOOL as _,
                (&raw mut request).cast::<libc::c_void>(),
            )
        };
        if answer < 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(answer)
    }
}

/// A text that ends at its first zero byte.
fn text(bytes: &[u8]) -> String {
    let length = bytes.iter().position(|&byte| byte == 0).unwrap_or(bytes.len());
    String::from_utf8_lossy(&bytes[..length]).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_has_features() {
        let lo = Ethtool::of("lo").unwrap();
        // NETIF_F_LOOPBACK can never be changed (loopback_setup, drivers/net/loopback.c).
        let loopback = lo.feature("loopback").unwrap().expect("known to every kernel");
        assert!(loopback.on && !loopback.changeable);
        assert_eq!(lo.feature("no-such-feature").unwrap(), None);
        assert!(lo.feature(RX_VLAN).unwrap().is_some());
        assert!(lo.feature(LRO).unwrap().is_some());
        assert!(lo.feature(GRO_HW).unwrap().is_some());
    }

    #[test]
    fn a_nic_that_is_gone_has_none() {
        let gone = Ethtool::of("no-such-nic").unwrap();
        assert_eq!(gone.feature(LRO).unwrap_err().errno(), Some(libc::ENODEV));
        let long = Ethtool::of("a-name-that-is-too-long").unwrap();
        assert_eq!(long.feature(LRO).unwrap_err().errno(), Some(libc::ENODEV));
    }
}
