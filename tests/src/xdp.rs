//! Small XDP programs without a toolchain: the one a veth peer needs, and a stand-in for a director.

use std::{
    ffi::CString,
    io,
    net::Ipv4Addr,
    os::{
        fd::{AsRawFd as _, FromRawFd as _, OwnedFd},
        unix::ffi::OsStrExt as _,
    },
    path::Path,
};

use anyhow::{Context as _, Result};

use crate::{mac::Mac, netns::Namespace};

/// One BPF instruction as in linux/bpf.h: code, registers, offset, immediate value.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Instruction {
    code: u8,
    registers: u8,
    offset: i16,
    value: i32,
}

/// BPF_OBJ_GET of `enum bpf_cmd`.
const OBJ_GET: libc::c_int = 7;
/// BPF_LINK_UPDATE of `enum bpf_cmd`.
const LINK_UPDATE: libc::c_int = 29;

/// How a program is attached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Mode {
    /// XDP_FLAGS_SKB_MODE
    Generic = 1 << 1,
    /// XDP_FLAGS_DRV_MODE
    Native = 1 << 2,
}

/// Where [`send_on`] sends a frame.
#[derive(Clone, Copy, Debug)]
pub enum Way {
    /// Back out of the NIC it came in by.
    Back,
    /// Out of the NIC of this index.
    Out(u32),
}

/// BPF_PROG_LOAD of `enum bpf_cmd`.
const PROG_LOAD: libc::c_int = 5;
/// BPF_LINK_CREATE of `enum bpf_cmd`.
const LINK_CREATE: libc::c_int = 28;

/// Of `enum bpf_attach_type`.
const BPF_XDP: u32 = 37;

const XDP_PASS: i32 = 2;
const XDP_TX: i32 = 3;
const BPF_REDIRECT: i32 = 23;

const MOVE_VALUE: u8 = 0xb7;
const MOVE_REGISTER: u8 = 0xbf;
const ADD_VALUE: u8 = 0x07;
const LOAD_WORD: u8 = 0x61;
const LOAD_HALF: u8 = 0x69;
const STORE_WORD: u8 = 0x62;
const STORE_HALF: u8 = 0x6a;
const JUMP_IF_GREATER: u8 = 0x2d;
const JUMP_IF_NOT_WORD: u8 = 0x56;
const CALL: u8 = 0x85;
const EXIT: u8 = 0x95;

const fn instruction(code: u8, destination: u8, source: u8, offset: i16, value: i32) -> Instruction {
    Instruction {
        code,
        registers: source << 4 | destination,
        offset,
        value,
    }
}

fn finish(program: &mut Vec<Instruction>, action: i32) {
    program.push(instruction(MOVE_VALUE, 0, 0, 0, action));
    program.push(instruction(EXIT, 0, 0, 0, 0));
}

/// A program that passes every frame on.
#[must_use]
pub fn pass() -> Vec<Instruction> {
    let mut program = Vec::new();
    finish(&mut program, XDP_PASS);
    program
}

/// A program that sends IPv4 frames for `vip` on to one MAC address and passes the others: a director reduced to what
/// shows whether the lab itself carries its traffic.
#[must_use]
pub fn send_on(vip: Ipv4Addr, own: Mac, server: Mac, way: Way) -> Vec<Instruction> {
    const FRAME: u8 = 2;
    const END: u8 = 3;
    const SCRATCH: u8 = 4;
    let half = |octets: [u8; 2]| i32::from(u16::from_ne_bytes(octets));
    let word = |octets: [u8; 4]| i32::from_ne_bytes(octets);
    let to = |at: i16, mac: Mac| {
        let [a, b, c, d, e, f] = mac.0;
        [
            instruction(STORE_WORD, FRAME, 0, at, word([a, b, c, d])),
            instruction(STORE_HALF, FRAME, 0, at + 4, half([e, f])),
        ]
    };
    let mut deliver = [to(0, server), to(6, own)].concat();
    match way {
        Way::Back => finish(&mut deliver, XDP_TX),
        Way::Out(index) => deliver.extend([
            instruction(MOVE_VALUE, 1, 0, 0, index.cast_signed()),
            instruction(MOVE_VALUE, 2, 0, 0, 0),
            instruction(CALL, 0, 0, 0, BPF_REDIRECT),
            instruction(EXIT, 0, 0, 0, 0),
        ]),
    }
    let past = i16::try_from(deliver.len()).expect("a handful of instructions");
    let mut program = vec![
        instruction(LOAD_WORD, FRAME, 1, 0, 0),
        instruction(LOAD_WORD, END, 1, 4, 0),
        instruction(MOVE_REGISTER, SCRATCH, FRAME, 0, 0),
        instruction(ADD_VALUE, SCRATCH, 0, 0, 34),
        instruction(JUMP_IF_GREATER, SCRATCH, END, past + 4, 0),
        instruction(LOAD_HALF, SCRATCH, FRAME, 12, 0),
        instruction(JUMP_IF_NOT_WORD, SCRATCH, 0, past + 2, half([0x08, 0x00])),
        instruction(LOAD_WORD, SCRATCH, FRAME, 30, 0),
        instruction(JUMP_IF_NOT_WORD, SCRATCH, 0, past, word(vip.octets())),
    ];
    program.extend(deliver);
    finish(&mut program, XDP_PASS);
    program
}

/// Start of the `union bpf_attr` of BPF_PROG_LOAD.
#[repr(C)]
#[derive(Default)]
struct LoadAttributes {
    program_type: u32,
    instruction_count: u32,
    instructions: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log: u64,
    kernel_version: u32,
    flags: u32,
    name: [u8; 16],
    interface: u32,
    expected_attach_type: u32,
}

/// Start of the `union bpf_attr` of BPF_LINK_CREATE.
#[repr(C)]
struct LinkAttributes {
    program: u32,
    interface: u32,
    attach_type: u32,
    flags: u32,
}

/// Start of the `union bpf_attr` of BPF_OBJ_GET.
#[repr(C)]
struct ObjectAttributes {
    path: u64,
    descriptor: u32,
    flags: u32,
}

/// Start of the `union bpf_attr` of BPF_LINK_UPDATE.
#[repr(C)]
struct UpdateAttributes {
    link: u32,
    program: u32,
    flags: u32,
    old: u32,
}

/// Attaches a program to a NIC of a namespace; closing what comes back detaches it.
///
/// # Errors
/// The verifier refuses it, or the NIC is missing or has a program.
pub fn attach(namespace: &Namespace, nic: &str, program: &[Instruction], mode: Mode) -> Result<OwnedFd> {
    let context = || format!("cannot attach an XDP program to {nic} in {}", namespace.name());
    let loaded = load(program).with_context(context)?;
    let link = namespace.enter(|| {
        let name = CString::new(nic)?;
        // SAFETY: the name is a C string that outlives the call.
        let interface = unsafe { libc::if_nametoindex(name.as_ptr()) };
        anyhow::ensure!(interface != 0, "no such NIC");
        let attributes = LinkAttributes {
            program: u32::try_from(loaded.as_raw_fd())?,
            interface,
            attach_type: BPF_XDP,
            flags: mode as u32,
        };
        // SAFETY: LinkAttributes is the start of the union that BPF_LINK_CREATE reads.
        Ok(unsafe { bpf(LINK_CREATE, &attributes) }?)
    })?;
    link.with_context(context)
}

/// Gives a pinned link another program, as another user of XDP could.
///
/// # Errors
/// The verifier refuses it, or nothing is pinned there.
pub fn replace(link: &Path, program: &[Instruction]) -> Result<()> {
    let context = || format!("cannot replace the program of {}", link.display());
    let program = load(program).with_context(context)?;
    let path = CString::new(link.as_os_str().as_bytes())?;
    let pinned = ObjectAttributes {
        path: path.as_ptr() as u64,
        descriptor: 0,
        flags: 0,
    };
    // SAFETY: ObjectAttributes is the start of the union that BPF_OBJ_GET reads; the path outlives the call.
    let link = unsafe { bpf(OBJ_GET, &pinned) }.with_context(context)?;
    let update = UpdateAttributes {
        link: u32::try_from(link.as_raw_fd())?,
        program: u32::try_from(program.as_raw_fd())?,
        flags: 0,
        old: 0,
    };
    // SAFETY: UpdateAttributes is the start of the union that BPF_LINK_UPDATE reads.
    let result = unsafe {
        libc::syscall(
            libc::SYS_bpf,
            LINK_UPDATE,
            &raw const update,
            size_of::<UpdateAttributes>(),
        )
    };
    if result < 0 {
        return Err(io::Error::last_os_error()).with_context(context);
    }
    Ok(())
}

fn load(program: &[Instruction]) -> io::Result<OwnedFd> {
    const BPF_PROG_TYPE_XDP: u32 = 6;
    // Lets it on NICs of any MTU.
    const BPF_F_XDP_HAS_FRAGS: u32 = 1 << 5;
    let mut log = vec![0_u8; 16384];
    let attributes = LoadAttributes {
        program_type: BPF_PROG_TYPE_XDP,
        instruction_count: program.len() as u32,
        instructions: program.as_ptr() as u64,
        license: c"GPL".as_ptr() as u64,
        log_level: 1,
        log_size: log.len() as u32,
        log: log.as_mut_ptr() as u64,
        flags: BPF_F_XDP_HAS_FRAGS,
        // A link takes only programs that agree in this.
        expected_attach_type: BPF_XDP,
        ..Default::default()
    };
    // SAFETY: LoadAttributes is the start of the union that BPF_PROG_LOAD reads; what it points to outlives the call.
    unsafe { bpf(PROG_LOAD, &attributes) }.map_err(|error| {
        let log = String::from_utf8_lossy(&log);
        io::Error::new(error.kind(), format!("{error}\n{}", log.trim_end_matches('\0')))
    })
}

/// The bpf(2) system call, for commands that give a descriptor.
///
/// # Safety
/// `Attributes` must be laid out as the command expects and hold valid pointers.
unsafe fn bpf<Attributes>(command: libc::c_int, attributes: &Attributes) -> io::Result<OwnedFd> {
    // SAFETY: the caller vouches for the layout; the kernel takes any length that is a prefix of the union.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command, attributes, size_of::<Attributes>()) };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the call has just given us this descriptor.
    Ok(unsafe { OwnedFd::from_raw_fd(result as i32) })
}
