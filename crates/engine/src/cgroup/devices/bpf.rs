//! The few bpf(2) calls that give a cgroup its device program.

use super::{Rule, program};
use std::ffi::CStr;
use std::fs::File;
use std::io;
use std::mem;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::path::Path;

const PROG_LOAD: u32 = 5;
const PROG_ATTACH: u32 = 8;
const PROG_DETACH: u32 = 9;
const PROG_GET_FD_BY_ID: u32 = 13;
const PROG_QUERY: u32 = 16;

const TYPE_CGROUP_DEVICE: u32 = 15;
const ATTACH_CGROUP_DEVICE: u32 = 6;
/// Programs of the groups above and beneath may be there too; all must allow.
const ALLOW_MULTI: u32 = 2;
/// More than the kernel lets be attached to one group.
const PROGRAMS_MAX: usize = 64;
const LICENSE: &CStr = c"Apache-2.0";

/// Whether this kernel takes such programs, and this process may load them.
pub fn supported() -> io::Result<()> {
    load(&[]).map(drop)
}

/// Makes these the only rules of the cgroup at `dir`. The program stays for as long as the group does.
pub fn attach(dir: &Path, rules: &[Rule]) -> io::Result<()> {
    let group = File::open(dir)?;
    let before = attached(&group)?;
    let program = load(rules)?;
    bpf(
        PROG_ATTACH,
        &mut attach_attributes(&group, &program, ALLOW_MULTI),
    )?;
    // those of an earlier run in the same group; taken away afterwards, so that it is never without one
    for id in before {
        let old = open(id)?;
        bpf(PROG_DETACH, &mut attach_attributes(&group, &old, 0))?;
    }
    Ok(())
}

/// `union bpf_attr` of PROG_LOAD, as far as it is used.
#[repr(C)]
#[derive(Default)]
struct LoadAttributes {
    kind: u32,
    instructions_count: u32,
    instructions: u64,
    license: u64,
    log_level: u32,
    log_length: u32,
    log: u64,
    kernel_version: u32,
    flags: u32,
    name: [u8; 16],
}

/// Of PROG_ATTACH and PROG_DETACH.
#[repr(C)]
#[derive(Default)]
struct AttachAttributes {
    target: u32,
    program: u32,
    kind: u32,
    flags: u32,
}

/// Of PROG_QUERY.
#[repr(C)]
#[derive(Default)]
struct QueryAttributes {
    target: u32,
    kind: u32,
    query_flags: u32,
    attach_flags: u32,
    ids: u64,
    ids_count: u32,
    padding: u32,
}

/// Of PROG_GET_FD_BY_ID.
#[repr(C)]
#[derive(Default)]
struct IdAttributes {
    id: u32,
    next: u32,
    flags: u32,
}

/// Attributes of one call.
///
/// # Safety
/// The type is plain data laid out as the kernel's `union bpf_attr`, and every address in a value of it is that of memory which
/// is valid for what the call does with it.
unsafe trait Attributes {}

// SAFETY: laid out as the kernel's; `load` fills the addresses with those of buffers that outlive the call.
unsafe impl Attributes for LoadAttributes {}
// SAFETY: laid out as the kernel's, without addresses.
unsafe impl Attributes for AttachAttributes {}
// SAFETY: laid out as the kernel's; `attached` gives the address and true length of a buffer that outlives the call.
unsafe impl Attributes for QueryAttributes {}
// SAFETY: laid out as the kernel's, without addresses.
unsafe impl Attributes for IdAttributes {}

fn bpf<A: Attributes>(command: u32, attributes: &mut A) -> io::Result<i32> {
    // SAFETY: pointer and length describe a live value that is laid out for the command (`Attributes`).
    let result = unsafe {
        libc::syscall(
            libc::SYS_bpf,
            command,
            std::ptr::from_mut(attributes),
            mem::size_of::<A>(),
        )
    };
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(result as i32)
    }
}

fn load(rules: &[Rule]) -> io::Result<OwnedFd> {
    let instructions = program::encode(&program::of(rules));
    let mut name = [0; 16];
    name[..12].copy_from_slice(b"plim_devices");
    let mut attributes = LoadAttributes {
        kind: TYPE_CGROUP_DEVICE,
        instructions_count: (instructions.len() / 8) as u32,
        instructions: instructions.as_ptr() as u64,
        license: LICENSE.as_ptr() as u64,
        name,
        ..LoadAttributes::default()
    };
    let fd = bpf(PROG_LOAD, &mut attributes)?;
    // SAFETY: the kernel made this descriptor for this call alone.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Ids of the programs attached to the group itself.
fn attached(group: &File) -> io::Result<Vec<u32>> {
    let mut ids = vec![0u32; PROGRAMS_MAX];
    let mut attributes = QueryAttributes {
        target: group.as_raw_fd() as u32,
        kind: ATTACH_CGROUP_DEVICE,
        ids: ids.as_mut_ptr() as u64,
        ids_count: PROGRAMS_MAX as u32,
        ..QueryAttributes::default()
    };
    bpf(PROG_QUERY, &mut attributes)?;
    ids.truncate(attributes.ids_count as usize);
    Ok(ids)
}

fn open(id: u32) -> io::Result<OwnedFd> {
    let mut attributes = IdAttributes {
        id,
        ..IdAttributes::default()
    };
    let fd = bpf(PROG_GET_FD_BY_ID, &mut attributes)?;
    // SAFETY: the kernel made this descriptor for this call alone.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

fn attach_attributes(group: &File, program: &OwnedFd, flags: u32) -> AttachAttributes {
    AttachAttributes {
        target: group.as_raw_fd() as u32,
        program: program.as_fd().as_raw_fd() as u32,
        kind: ATTACH_CGROUP_DEVICE,
        flags,
    }
}
