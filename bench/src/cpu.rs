//! The CPU the bench runs on, with as few interruptions as the kernel allows.

use anyhow::{Context as _, Result};
use nix::{
    sched::{CpuSet, sched_getaffinity, sched_setaffinity},
    time::{ClockId, clock_gettime},
    unistd::Pid,
};

/// Pins this thread to a CPU (default: the last of those it may use), with real-time priority.
///
/// # Errors
/// There is no such CPU, or we are not root.
pub fn pin(wanted: Option<usize>) -> Result<usize> {
    let allowed = sched_getaffinity(Pid::from_raw(0)).context("cannot read the CPU affinity")?;
    let mut usable = (0..CpuSet::count()).filter(|&cpu| allowed.is_set(cpu).unwrap_or(false));
    let cpu = match wanted {
        Some(cpu) => usable.find(|&other| other == cpu),
        None => usable.next_back(),
    };
    let cpu = cpu.context("no such CPU, or not allowed for this process")?;
    let mut only = CpuSet::new();
    only.set(cpu)?;
    sched_setaffinity(Pid::from_raw(0), &only).with_context(|| format!("cannot run on CPU {cpu}"))?;
    let priority = libc::sched_param { sched_priority: 1 };
    // SAFETY: a valid parameter of the right type, for this thread.
    let result = unsafe { libc::sched_setscheduler(0, libc::SCHED_FIFO, &raw const priority) };
    nix::errno::Errno::result(result).context("cannot become a real-time task")?;
    Ok(cpu)
}

/// CPU time of this thread in nanoseconds, without that of other tasks.
///
/// # Errors
/// Never on Linux.
pub fn thread_cpu_ns() -> Result<f64> {
    let time: std::time::Duration = clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID)?.into();
    Ok(time.as_secs_f64() * 1e9)
}
