//! Why the kernel refuses a native XDP program: BPF links give an error number alone, netlink gives the driver's own words
//! (extended acknowledgements, `struct nlmsgerr` in include/uapi/linux/netlink.h).

use std::{
    io,
    os::fd::{AsRawFd as _, BorrowedFd},
};

use rtnetlink::sys::{Socket, protocols::NETLINK_ROUTE};

/// The kernel's words about a native program on a NIC; none if it has none. The program is not attached when this returns.
///
/// # Errors
/// The socket cannot be had, or the kernel's answer cannot be read.
pub fn native_attach_error(ifindex: u32, program: BorrowedFd<'_>) -> io::Result<Option<String>> {
    let mut socket = Socket::new(NETLINK_ROUTE)?;
    socket.bind_auto()?;
    socket.set_cap_ack(true)?;
    socket.set_ext_ack(true)?;
    let (answer, reason) = exchange(&socket, ifindex, program.as_raw_fd(), UPDATE_IF_NOEXIST | DRV_MODE)?;
    if answer == 0 {
        // What refused a moment ago does not any more: the caller decides, not this question.
        exchange(&socket, ifindex, -1, DRV_MODE)?;
        return Ok(None);
    }
    Ok(reason)
}

/// Messages, flags and attributes (include/uapi/linux/netlink.h, rtnetlink.h, if_link.h).
const SETLINK: u16 = 19;
const REQUEST_WITH_ACK: u16 = 0x1 | 0x4;
const IFLA_XDP: u16 = 43 | 0x8000;
const IFLA_XDP_FD: u16 = 1;
const IFLA_XDP_FLAGS: u16 = 3;
const UPDATE_IF_NOEXIST: u32 = 1;
const DRV_MODE: u32 = 1 << 2;
const ERROR: u16 = 2;
/// The acknowledgement has attributes.
const ACK_ATTRIBUTES: u16 = 0x200;
const ACK_MESSAGE: u16 = 1;
/// Bytes of struct nlmsghdr, struct ifinfomsg, struct nlattr.
const HEADER: usize = 16;
const LINK_HEADER: usize = 16;
const ATTRIBUTE_HEADER: usize = 4;

/// Asks to attach (or, with -1, to detach): the error number and the kernel's words.
fn exchange(socket: &Socket, ifindex: u32, program: i32, flags: u32) -> io::Result<(i32, Option<String>)> {
    socket.send(&request(ifindex, program, flags), 0)?;
    let (answer, _) = socket.recv_from_full()?;
    acknowledgement(&answer).ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "malformed acknowledgement"))
}

fn request(ifindex: u32, program: i32, flags: u32) -> Vec<u8> {
    let attribute = |kind: u16, value: &[u8]| {
        let length = (ATTRIBUTE_HEADER + value.len()) as u16;
        [&length.to_ne_bytes(), &kind.to_ne_bytes(), value].concat()
    };
    let inner = [
        attribute(IFLA_XDP_FD, &program.to_ne_bytes()),
        attribute(IFLA_XDP_FLAGS, &flags.to_ne_bytes()),
    ]
    .concat();
    let xdp = attribute(IFLA_XDP, &inner);
    let length = HEADER + LINK_HEADER + xdp.len();
    let mut message = Vec::with_capacity(length);
    message.extend((length as u32).to_ne_bytes());
    message.extend(SETLINK.to_ne_bytes());
    message.extend(REQUEST_WITH_ACK.to_ne_bytes());
    message.extend([0; 8]);
    message.extend([0; 4]);
    message.extend(ifindex.to_ne_bytes());
    message.extend([0; 8]);
    message.extend(xdp);
    message
}

/// Error number and words of an acknowledgement.
fn acknowledgement(message: &[u8]) -> Option<(i32, Option<String>)> {
    let number = |at: usize| Some(u16::from_ne_bytes(message.get(at..at + 2)?.try_into().ok()?));
    if number(4)? != ERROR {
        return None;
    }
    let flags = number(6)?;
    let error = i32::from_ne_bytes(message.get(HEADER..HEADER + 4)?.try_into().ok()?);
    if flags & ACK_ATTRIBUTES == 0 {
        return Some((error, None));
    }
    // Behind the error the header of the request is repeated; its payload is not (NETLINK_CAP_ACK).
    let mut attributes = message.get(HEADER + 4 + HEADER..)?;
    while let Some((header, _)) = attributes.split_at_checked(ATTRIBUTE_HEADER) {
        let length = usize::from(u16::from_ne_bytes([header[0], header[1]]));
        let value = attributes.get(ATTRIBUTE_HEADER..length)?;
        if u16::from_ne_bytes([header[2], header[3]]) == ACK_MESSAGE {
            let text = String::from_utf8_lossy(value);
            return Some((error, Some(text.trim_end_matches('\0').to_owned())));
        }
        attributes = attributes.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    Some((error, None))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(flags: u16, error: i32, attributes: &[u8]) -> Vec<u8> {
        let mut message = vec![0; HEADER];
        message[4..6].copy_from_slice(&ERROR.to_ne_bytes());
        message[6..8].copy_from_slice(&flags.to_ne_bytes());
        message.extend(error.to_ne_bytes());
        message.extend([0; HEADER]);
        message.extend(attributes);
        message
    }

    #[test]
    fn reads_the_kernels_words() {
        // An attribute of another kind, padded, and the message.
        let attributes = [&[5, 0, 2, 0, 9, 0, 0, 0][..], &[8, 0, 1, 0], b"no\0\0"].concat();
        assert_eq!(
            acknowledgement(&message(ACK_ATTRIBUTES, -22, &attributes)),
            Some((-22, Some("no".to_owned())))
        );
        assert_eq!(acknowledgement(&message(0, -22, &attributes)), Some((-22, None)));
        assert_eq!(acknowledgement(&message(ACK_ATTRIBUTES, 0, &[])), Some((0, None)));
        assert_eq!(acknowledgement(&[0; 10]), None);
    }

    #[test]
    fn a_request_has_the_length_it_says() {
        let request = request(7, 3, DRV_MODE);
        assert_eq!(
            u32::from_ne_bytes(request[..4].try_into().unwrap()) as usize,
            request.len()
        );
        assert_eq!(request.len() % 4, 0);
    }
}
