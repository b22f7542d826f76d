//! Reads which program is in the egress filter of a device.

use std::{
    io,
    os::fd::{AsRawFd as _, OwnedFd},
};

use netlink_packet_core::{NLM_F_REQUEST, NetlinkHeader, NetlinkMessage, NetlinkPayload};
use netlink_packet_route::{
    RouteNetlinkMessage,
    tc::{TcAttribute, TcFilterBpfOption, TcHandle, TcHeader, TcMessage, TcOption},
};
use nix::sys::socket::{AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, recv, sendto, socket};

/// Id of the program in the filter of this priority and handle on what a device sends; none if there is none. In the network
/// namespace of the calling thread.
///
/// # Errors
/// The kernel refuses, for another reason than that there is none.
pub fn program_id(device: u32, priority: u16, handle: u32) -> io::Result<Option<u32>> {
    let socket = socket(
        AddressFamily::Netlink,
        SockType::Raw,
        SockFlag::SOCK_CLOEXEC,
        SockProtocol::NetlinkRoute,
    )?;
    request(&socket, device, priority, handle)?;
    let mut answer = vec![0; 8192];
    let length = recv(socket.as_raw_fd(), &mut answer, MsgFlags::empty())?;
    let answer = NetlinkMessage::<RouteNetlinkMessage>::deserialize(&answer[..length]).map_err(io::Error::other)?;
    match answer.payload {
        NetlinkPayload::InnerMessage(RouteNetlinkMessage::NewTrafficFilter(filter)) => Ok(id(&filter)),
        NetlinkPayload::Error(error) => match error.to_io() {
            // No such filter, or not even clsact or the device.
            error if matches!(error.raw_os_error(), Some(libc::ENOENT | libc::EINVAL | libc::ENODEV)) => Ok(None),
            error => Err(error),
        },
        _ => Ok(None),
    }
}

/// Requests one filter (tc_get_tfilter in net/sched/cls_api.c).
fn request(socket: &OwnedFd, device: u32, priority: u16, handle: u32) -> io::Result<()> {
    let parent = TcHandle {
        minor: TcHandle::MIN_EGRESS,
        ..TcHandle::CLSACT
    };
    let mut filter = TcMessage::default();
    filter.header = TcHeader {
        index: device.cast_signed(),
        handle: handle.into(),
        parent,
        info: u32::from(priority) << 16 | u32::from((libc::ETH_P_ALL as u16).to_be()),
        ..TcHeader::default()
    };
    let mut header = NetlinkHeader::default();
    header.flags = NLM_F_REQUEST;
    let mut message = NetlinkMessage::new(header, RouteNetlinkMessage::GetTrafficFilter(filter).into());
    message.finalize();
    let mut bytes = vec![0; message.buffer_len()];
    message.serialize(&mut bytes);
    sendto(socket.as_raw_fd(), &bytes, &NetlinkAddr::new(0, 0), MsgFlags::empty())?;
    Ok(())
}

fn id(filter: &TcMessage) -> Option<u32> {
    let options = filter.attributes.iter().filter_map(|attribute| match attribute {
        TcAttribute::Options(options) => Some(options),
        _ => None,
    });
    options.flatten().find_map(|option| match option {
        TcOption::Bpf(TcFilterBpfOption::ProgId(id)) => Some(*id),
        _ => None,
    })
}
