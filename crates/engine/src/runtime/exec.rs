//! Enters a running container: joins its cgroups and namespaces, takes the user, rights and filter of a fresh container process,
//! and becomes the program.
//!
//! libcontainer's own way in (its tenant builder) loads no seccomp filter, so it is not used.

use super::create::receive_descriptor;
use super::launch::{Launch, read_failure};
use super::{Task, failed};
use crate::cgroup::Cgroups;
use crate::oci::filter::Filter;
use crate::oci::{self, capabilities, user};
use crate::process::ExecSpec;
use crate::records::{self, ContainerRecord, ContainerState, SandboxRecord};
use crate::spec::{Security, Ulimit};
use crate::sys;
use crate::wire::{Failure, FailureKind};
use libcontainer::syscall::syscall::create_syscall;
use rustix::thread::{CapabilitySet, CapabilitySets};
use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::fd::{AsFd, IntoRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;

/// Enters and starts; the pid here, and the terminal. `request` is the JSON of an [`ExecSpec`] file's path.
pub fn run(task: &Task, request: &str) -> Result<(u32, Option<OwnedFd>), Failure> {
    let fail = |what: &str, error: &dyn std::fmt::Display| failed(FailureKind::Exec, what, error);
    let layout = &task.layout;
    let exec: ExecSpec = fs::read(request)
        .map_err(|error| fail("cannot read the request", &error))
        .and_then(|bytes| {
            serde_json::from_slice(&bytes).map_err(|error| fail("cannot read the request", &error))
        })?;
    let _ = fs::remove_file(request);
    let missing = || Failure::new(FailureKind::State, "not running");
    let record: ContainerRecord =
        records::load(&layout.container_record(&task.sandbox, &task.container))
            .map_err(|error| fail("cannot read the container's record", &error))?
            .ok_or_else(missing)?;
    let state: ContainerState =
        records::load(&layout.container_state(&task.sandbox, &task.container))
            .map_err(|error| fail("cannot read the container's state", &error))?
            .ok_or_else(missing)?;
    let config: serde_json::Value =
        fs::read(layout.bundles().join(&task.container).join("config.json"))
            .map_err(|error| fail("cannot read the runtime's configuration", &error))
            .and_then(|bytes| {
                serde_json::from_slice(&bytes)
                    .map_err(|error| fail("cannot read the runtime's configuration", &error))
            })?;

    // Opened before the check: from then on the descriptor means this process whatever happens to its pid.
    let init = rustix::process::Pid::from_raw(state.process.pid as i32).ok_or_else(missing)?;
    let init = rustix::process::pidfd_open(init, rustix::process::PidfdFlags::empty())
        .map_err(|_| missing())?;
    if !state.process.alive() {
        return Err(missing());
    }
    let cgroups = Cgroups::detect().map_err(|error| fail("cgroups", &error))?;
    let doors = cgroups
        .doors(&format!("{}/{}", task.cgroup, task.container))
        .map_err(|error| fail("cgroups", &error))?;
    let mut parts = Parts::of(&record, exec, &config, &layout.filters())
        .map_err(|error| fail("cannot prepare", &error))?;

    // As the container's own processes: what started this one is to be spared by the kernel, and this is not.
    let score = oci::oom_score_possible(record.spec.oom_score_adj);
    if score != oci::own_oom_score() {
        fs::write("/proc/self/oom_score_adj", score.to_string())
            .map_err(|error| fail("cannot set the OOM score", &error))?;
    }

    sys::set_undumpable();
    let mut namespaces = libc::CLONE_NEWNS
        | libc::CLONE_NEWPID
        | libc::CLONE_NEWIPC
        | libc::CLONE_NEWUTS
        | libc::CLONE_NEWNET;
    let mapped = records::load::<SandboxRecord>(&layout.sandbox_record(&task.sandbox))
        .map_err(|error| fail("cannot read the sandbox's record", &error))?
        .is_some_and(|sandbox| sandbox.ids.is_some());
    parts.mapped = mapped;
    if mapped {
        namespaces |= libc::CLONE_NEWUSER;
    }
    // Not here, but in the child once it has been moved: from within, a group outside is out of reach (before Linux 5.16 also
    // through a file that was opened before).
    let cgroup_namespace = cgroups.unified().then(|| init.try_clone()).transpose();
    let cgroup_namespace = cgroup_namespace.map_err(|error| fail("pidfd", &error))?;
    let pipe = || {
        rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)
            .map_err(|error| fail("pipe", &error))
    };
    let (go_out, go_in) = pipe()?;
    let (failures_out, failures_in) = pipe()?;
    let (console, console_in) = UnixStream::pair().map_err(|error| fail("socket", &error))?;
    sys::set_namespace(&init, namespaces)
        .map_err(|error| fail("cannot enter the container", &error))?;
    // SAFETY: this process never starts a thread.
    match unsafe { sys::fork() }.map_err(|error| fail("cannot fork", &error))? {
        0 => {
            drop((go_in, failures_out, console, init));
            let failure = parts.become_program(go_out, doors, console_in, cgroup_namespace);
            let _ = File::from(failures_in)
                .write_all(&serde_json::to_vec(&failure).unwrap_or_default());
            std::process::exit(failure.code)
        }
        pid => {
            drop((failures_in, console_in, go_out));
            let moved = doors
                .iter()
                .try_for_each(|mut door| door.write_all(pid.to_string().as_bytes()));
            if let Err(error) = moved {
                let _ = sys::kill(pid, libc::SIGKILL);
                return Err(fail("cannot join the container's cgroup", &error));
            }
            let _ = File::from(go_in).write_all(b"g");
            let terminal = if parts.tty {
                receive_descriptor(console.as_fd()).ok()
            } else {
                None
            };
            match read_failure(failures_out) {
                Some(failure) => Err(failure),
                None => Ok((pid as u32, terminal)),
            }
        }
    }
}

/// All that the process needs once it is inside.
struct Parts {
    launch: Launch,
    user: String,
    extra_groups: Vec<u32>,
    default_user: String,
    tty: bool,
    capabilities: Vec<String>,
    filter: Option<Filter>,
    no_new_privileges: bool,
    /// What the container's own process has had since its start.
    app_armor_profile: Option<String>,
    ulimits: Vec<Ulimit>,
    /// In a user namespace, where rights over the machine end.
    mapped: bool,
}

impl Parts {
    fn of(
        record: &ContainerRecord,
        exec: ExecSpec,
        config: &serde_json::Value,
        filters: &Path,
    ) -> Result<Parts, String> {
        let container = &record.spec;
        let security = &container.security;
        let privileged = security.privileged || exec.privileged;
        let security_here = Security {
            privileged,
            ..security.clone()
        };
        let capabilities = capabilities::of(&security_here);
        // Resolved as for the container itself, whose profile it is.
        let own = capabilities::of(security);
        let filter = oci::seccomp_profile(&security_here, &own)?
            .map(|profile| Filter::of(&profile, filters))
            .transpose()?;
        let inherited = config["process"]["env"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(|entry| entry.as_str());
        let name = |entry: &str| entry.split('=').next().unwrap_or_default().to_owned();
        let overridden: Vec<String> = exec.env.iter().map(|entry| name(entry)).collect();
        let changes_user = !exec.user.is_empty();
        let home = container.env.iter().all(|entry| name(entry) != "HOME");
        let kept = inherited.filter(|entry| {
            let name = name(entry);
            let follows_user = changes_user && home && name == "HOME";
            !overridden.contains(&name) && !follows_user
        });
        let mut env: Vec<String> = kept.map(str::to_owned).collect();
        if exec.tty
            && !env
                .iter()
                .chain(&exec.env)
                .any(|entry| name(entry) == "TERM")
        {
            env.push("TERM=xterm".into());
        }
        env.extend(exec.env);
        let cwd = if exec.cwd.is_empty() {
            container.cwd.clone()
        } else {
            exec.cwd
        };
        Ok(Parts {
            launch: Launch {
                argv: exec.argv,
                env,
                cwd,
                kind: FailureKind::Exec,
            },
            user: exec.user,
            extra_groups: security.supplementary_groups.clone(),
            default_user: container.user.clone(),
            tty: exec.tty,
            capabilities,
            filter,
            no_new_privileges: security.no_new_privileges,
            app_armor_profile: config["process"]["apparmorProfile"]
                .as_str()
                .map(str::to_owned),
            ulimits: container.ulimits.clone(),
            mapped: false,
        })
    }

    /// In the forked child, inside the namespaces; returns only the failure.
    fn become_program(
        mut self,
        go: OwnedFd,
        doors: Vec<File>,
        console: UnixStream,
        cgroup_namespace: Option<OwnedFd>,
    ) -> Failure {
        let fail =
            |what: &str, error: &dyn std::fmt::Display| failed(FailureKind::Exec, what, error);
        let mut byte = [0];
        if File::from(go).read_exact(&mut byte).is_err() {
            return fail("cannot start", &"the parent went away");
        }
        drop(doors);
        if let Some(init) = cgroup_namespace
            && let Err(error) = sys::set_namespace(&init, libc::CLONE_NEWCGROUP)
        {
            return fail("cannot enter the container's cgroup namespace", &error);
        }
        sys::new_session();
        if self.tty {
            let console = console.into_raw_fd();
            if let Err(error) =
                libcontainer::tty::setup_console(create_syscall().as_ref(), console, false)
            {
                return fail("cannot set up the terminal", &error);
            }
        } else {
            drop(console);
        }
        sys::close_on_exec_from(3);
        let wanted = if self.user.is_empty() {
            &self.default_user
        } else {
            &self.user
        };
        let user = match user_here(wanted, &self.extra_groups) {
            Ok(user) => user,
            Err(reason) => return Failure::new(FailureKind::Exec, reason),
        };
        if !self
            .launch
            .env
            .iter()
            .any(|entry| entry.starts_with("HOME="))
        {
            self.launch.env.push(format!("HOME={}", user.home));
        }
        if let Err(error) = self.confine(&user) {
            return fail("cannot take the container's rights", &error);
        }
        match self.launch.prepare() {
            Ok(program) => self.launch.become_program(&program),
            Err(failure) => failure,
        }
    }

    fn confine(&self, user: &user::User) -> Result<(), String> {
        let text = |error: std::io::Error| error.to_string();
        oci::ulimits::apply(&self.ulimits, self.mapped).map_err(|error| error.to_string())?;
        if let Some(profile) = &self.app_armor_profile {
            // Takes effect when it becomes the program. The kernel's own file, whatever is mounted on the container's /proc.
            libcontainer::apparmor::apply_profile(profile)
                .map_err(|error| format!("AppArmor profile {profile:?}: {error:?}"))?;
        }
        let wanted = capabilities::bits(&self.capabilities);
        for bit in 0..64 {
            // Numbers that the kernel does not know are refused, and are the end of the list.
            if wanted & (1 << bit) == 0 && sys::drop_bounding(bit).is_err() {
                break;
            }
        }
        if self.no_new_privileges {
            sys::set_no_new_privileges().map_err(text)?;
        } else {
            self.load_filter()?;
        }
        sys::set_ids(user.uid, user.gid, &user.groups).map_err(text)?;
        let effective = CapabilitySet::from_bits_retain(if user.uid == 0 { wanted } else { 0 });
        let sets = CapabilitySets {
            effective,
            permitted: effective,
            inheritable: CapabilitySet::empty(),
        };
        rustix::thread::set_capabilities(None, sets).map_err(|error| error.to_string())?;
        if self.no_new_privileges {
            self.load_filter()
        } else {
            Ok(())
        }
    }

    fn load_filter(&self) -> Result<(), String> {
        match &self.filter {
            Some(filter) => filter.load().map_err(|error| error.to_string()),
            None => Ok(()),
        }
    }
}

fn user_here(wanted: &str, extra_groups: &[u32]) -> Result<user::User, String> {
    let root = oci::rootfs::Root::open("/".as_ref()).map_err(|error| error.to_string())?;
    let read = |path: &str| {
        root.read(path)
            .map_err(|error| format!("cannot read {path} of the container: {error}"))
    };
    let mut user = user::resolve(wanted, &read("/etc/passwd")?, &read("/etc/group")?)?;
    user.groups.extend(extra_groups);
    Ok(user)
}
