//! rtnetlink about the filters of a device and its clsact, in the network namespace of the calling thread.

use std::{io, os::fd::AsRawFd as _};

use netlink_packet_core::{
    NLM_F_ACK, NLM_F_DUMP, NLM_F_REQUEST, NetlinkBuffer, NetlinkHeader, NetlinkMessage, NetlinkPayload,
};
use netlink_packet_route::{
    RouteNetlinkMessage,
    tc::{TcAttribute, TcFilterBpfOption, TcHandle, TcHeader, TcMessage, TcOption},
};
use nix::sys::socket::{AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, recv, sendto, socket};

/// Type of the messages that describe a filter, linux/rtnetlink.h.
const RTM_NEWTFILTER: u16 = 44;

/// Id of the program in the filter of this priority and handle on what a device sends; none if there is none.
///
/// # Errors
/// The kernel refuses, for another reason than that there is none.
pub fn program_id(device: u32, priority: u16, handle: u32) -> io::Result<Option<u32>> {
    // One filter: tc_get_tfilter in net/sched/cls_api.c.
    let filter = TcHeader {
        handle: handle.into(),
        info: u32::from(priority) << 16 | u32::from((libc::ETH_P_ALL as u16).to_be()),
        ..of_clsact(device, TcHandle::MIN_EGRESS)
    };
    let answer = exchange(0, filter, RouteNetlinkMessage::GetTrafficFilter)?;
    let answer = NetlinkMessage::<RouteNetlinkMessage>::deserialize(&answer).map_err(io::Error::other)?;
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

/// Whether the clsact of a device has a filter, on what the device receives or sends, whoever made it. A device without
/// clsact has none.
///
/// # Errors
/// The kernel refuses.
pub fn has_filters(device: u32) -> io::Result<bool> {
    for direction in [TcHandle::MIN_INGRESS, TcHandle::MIN_EGRESS] {
        let answer = exchange(
            NLM_F_DUMP,
            of_clsact(device, direction),
            RouteNetlinkMessage::GetTrafficFilter,
        )?;
        // A dump without filters begins with its end. The kind of filter does not matter here, and may be any.
        let first = NetlinkBuffer::new_checked(&answer).map_err(io::Error::other)?;
        if first.message_type() == RTM_NEWTFILTER {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Deletes the clsact of a device, with every filter in it. A device without one, or that is gone, is no error.
///
/// # Errors
/// The kernel refuses.
pub fn delete_clsact(device: u32) -> io::Result<()> {
    let clsact = TcHeader {
        index: device.cast_signed(),
        handle: TcHandle {
            minor: 0,
            ..TcHandle::CLSACT
        },
        parent: TcHandle::CLSACT,
        ..TcHeader::default()
    };
    let answer = exchange(NLM_F_ACK, clsact, RouteNetlinkMessage::DelQueueDiscipline)?;
    let answer = NetlinkMessage::<RouteNetlinkMessage>::deserialize(&answer).map_err(io::Error::other)?;
    match answer.payload {
        NetlinkPayload::Error(error) if error.code.is_some() => match error.to_io() {
            error if matches!(error.raw_os_error(), Some(libc::ENOENT | libc::EINVAL | libc::ENODEV)) => Ok(()),
            error => Err(error),
        },
        _ => Ok(()),
    }
}

/// Names what a device receives or sends.
fn of_clsact(device: u32, direction: u16) -> TcHeader {
    TcHeader {
        index: device.cast_signed(),
        parent: TcHandle {
            minor: direction,
            ..TcHandle::CLSACT
        },
        ..TcHeader::default()
    }
}

/// Sends one request; the first datagram of the answer.
fn exchange(
    flags: u16,
    header: TcHeader,
    request: impl FnOnce(TcMessage) -> RouteNetlinkMessage,
) -> io::Result<Vec<u8>> {
    let socket = socket(
        AddressFamily::Netlink,
        SockType::Raw,
        SockFlag::SOCK_CLOEXEC,
        SockProtocol::NetlinkRoute,
    )?;
    let mut netlink = NetlinkHeader::default();
    netlink.flags = NLM_F_REQUEST | flags;
    let payload = request(TcMessage::from_parts(header, Vec::new()));
    let mut message = NetlinkMessage::new(netlink, payload.into());
    message.finalize();
    let mut bytes = vec![0; message.buffer_len()];
    message.serialize(&mut bytes);
    sendto(socket.as_raw_fd(), &bytes, &NetlinkAddr::new(0, 0), MsgFlags::empty())?;
    let mut answer = vec![0; 32 << 10];
    let length = recv(socket.as_raw_fd(), &mut answer, MsgFlags::empty())?;
    answer.truncate(length);
    Ok(answer)
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
