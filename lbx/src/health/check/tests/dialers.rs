//! Dialers for tests.

use std::{
    net::SocketAddr,
    os::fd::{AsRawFd, BorrowedFd},
    sync::Mutex,
};

use crate::{
    desired::Target,
    health::{
        failure::Failure,
        probe::{Aim, Dialer, Evidence},
    },
};

/// Says that nothing was rewritten.
pub struct Untrue;

impl Dialer for Untrue {
    fn bind(&self, _socket: BorrowedFd<'_>, _aim: &Aim) -> Result<(), Failure> {
        Ok(())
    }

    fn vouch(&self, _local: SocketAddr, _aim: &Aim, _evidence: Evidence) -> Result<(), Failure> {
        Err(Failure::NotRewritten)
    }
}

/// Vouches for all, and keeps what it was asked.
#[derive(Default)]
pub struct Witness(pub Mutex<Vec<(SocketAddr, Evidence)>>);

impl Dialer for Witness {
    fn bind(&self, _socket: BorrowedFd<'_>, _aim: &Aim) -> Result<(), Failure> {
        Ok(())
    }

    fn vouch(&self, local: SocketAddr, _aim: &Aim, evidence: Evidence) -> Result<(), Failure> {
        self.0.lock().unwrap().push((local, evidence));
        Ok(())
    }
}

/// Lets no packet come back to a socket that asks one of the two addresses: that address is not there.
pub struct Deaf(pub Target);

impl Dialer for Deaf {
    fn bind(&self, socket: BorrowedFd<'_>, aim: &Aim) -> Result<(), Failure> {
        if aim.target == self.0 {
            hear_nothing(socket);
        }
        Ok(())
    }

    fn vouch(&self, _local: SocketAddr, _aim: &Aim, _evidence: Evidence) -> Result<(), Failure> {
        Ok(())
    }
}

/// Attaches a filter to a socket that takes 0 bytes of each packet (socket(7), `SO_ATTACH_FILTER`).
fn hear_nothing(socket: BorrowedFd<'_>) {
    let mut program = libc::sock_filter {
        code: 0x06,
        jt: 0,
        jf: 0,
        k: 0,
    };
    let filter = libc::sock_fprog {
        len: 1,
        filter: &raw mut program,
    };
    let length = u32::try_from(size_of::<libc::sock_fprog>()).unwrap();
    // SAFETY: the kernel reads `length` bytes of `filter`, and the one instruction it points to; both live until then.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_ATTACH_FILTER,
            (&raw const filter).cast(),
            length,
        )
    };
    assert_eq!(result, 0, "{}", std::io::Error::last_os_error());
}
