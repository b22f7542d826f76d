//! Dialers for tests.

use std::{
    net::SocketAddr,
    os::fd::{AsRawFd, BorrowedFd},
    sync::Mutex,
};

use crate::{
    desired::CheckedAddress,
    health::{
        failure::ProbeFailure,
        probe::{ProbeEndpoint, ProbeSteering, RequiredTraffic},
    },
};

/// Says that nothing was rewritten.
pub struct Untrue;

impl ProbeSteering for Untrue {
    fn bind(&self, _socket: BorrowedFd<'_>, _endpoint: &ProbeEndpoint) -> Result<(), ProbeFailure> {
        Ok(())
    }

    fn verify_steered(
        &self,
        _local: SocketAddr,
        _endpoint: &ProbeEndpoint,
        _required: RequiredTraffic,
    ) -> Result<(), ProbeFailure> {
        Err(ProbeFailure::NotSteered)
    }
}

/// Vouches for all, and keeps what it was asked.
#[derive(Default)]
pub struct Witness(pub Mutex<Vec<(SocketAddr, RequiredTraffic)>>);

impl ProbeSteering for Witness {
    fn bind(&self, _socket: BorrowedFd<'_>, _endpoint: &ProbeEndpoint) -> Result<(), ProbeFailure> {
        Ok(())
    }

    fn verify_steered(
        &self,
        local: SocketAddr,
        _endpoint: &ProbeEndpoint,
        required: RequiredTraffic,
    ) -> Result<(), ProbeFailure> {
        self.0.lock().unwrap().push((local, required));
        Ok(())
    }
}

/// Lets no packet come back to a TCP socket that asks these of the two addresses: they are not there.
pub struct Deaf(pub &'static [CheckedAddress]);

impl ProbeSteering for Deaf {
    fn bind(&self, socket: BorrowedFd<'_>, endpoint: &ProbeEndpoint) -> Result<(), ProbeFailure> {
        if self.0.contains(&endpoint.target) {
            hear_nothing(socket);
        }
        Ok(())
    }

    fn verify_steered(
        &self,
        _local: SocketAddr,
        _endpoint: &ProbeEndpoint,
        _required: RequiredTraffic,
    ) -> Result<(), ProbeFailure> {
        Ok(())
    }
}

/// What asking an address comes to before a packet is sent, or that it is asked.
pub type Word = fn() -> Result<(), ProbeFailure>;

/// Gives each of the two addresses its word.
pub struct Words {
    pub vip: Word,
    pub rip: Word,
}

impl ProbeSteering for Words {
    fn bind(&self, _socket: BorrowedFd<'_>, endpoint: &ProbeEndpoint) -> Result<(), ProbeFailure> {
        match endpoint.target {
            CheckedAddress::Vip => (self.vip)(),
            CheckedAddress::Rip => (self.rip)(),
        }
    }

    fn verify_steered(
        &self,
        _local: SocketAddr,
        _endpoint: &ProbeEndpoint,
        _required: RequiredTraffic,
    ) -> Result<(), ProbeFailure> {
        Ok(())
    }
}

/// Has TCP drop what comes with less than the greatest time to live (ip(7), `IP_MINTTL`): all but what is made for it.
fn hear_nothing(socket: BorrowedFd<'_>) {
    let least: libc::c_int = 255;
    // SAFETY: the kernel reads the bytes of `least`, which lives until then.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::IPPROTO_IP,
            libc::IP_MINTTL,
            (&raw const least).cast(),
            4,
        )
    };
    assert_eq!(result, 0, "{}", std::io::Error::last_os_error());
}
