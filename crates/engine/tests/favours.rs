//! What the kernel would do for whoever asks, and what a container can use up.

mod common;

use common::{World, command, enter, eventually};
use std::fs;
use std::os::unix::fs::FileTypeExt;
use std::time::Duration;

/// CVE-2022-0492 (release_agent), core_pattern, sysrq, modules, keys, devices: what the kernel runs or opens on behalf of whoever asks.
#[test]
fn the_kernel_does_nothing_for_a_container() {
    World::run(async |world| {
        let pattern = || fs::read_to_string("/proc/sys/kernel/core_pattern").expect("read");
        let before = pattern();
        let script = "exec 2>/dev/null
            try() { \"$@\" && echo \"DONE: $*\"; }
            for dir in /sys/fs/cgroup /sys/fs/cgroup/*; do try sh -c \"echo /tmp/x > $dir/release_agent\"; try sh -c \"echo 1 > $dir/notify_on_release\"; \
                try sh -c \"echo 1 > $dir/cgroup.procs\"; done
            mkdir -p /tmp/cg; try mount -t cgroup -o rdma cgroup /tmp/cg; try mount -t cgroup -o memory cgroup /tmp/cg; try mount -t cgroup2 none /tmp/cg
            try unshare -UrmC true; try unshare -m true; try unshare -U true
            try sh -c 'echo \"|/bin/x\" > /proc/sys/kernel/core_pattern'; try sh -c 'echo /bin/x > /proc/sys/kernel/modprobe'; try sh -c 'echo b > /proc/sysrq-trigger'
            try sh -c 'echo 1 > /proc/sys/kernel/panic'; try sh -c 'echo 1 > /proc/sys/vm/drop_caches'; try sh -c 'echo 0 > /proc/sys/net/ipv4/ip_forward'
            try mount -o remount,rw /proc/sys; try mount -o remount,rw /sys; try umount /proc/sys; try umount /proc/keys; try mount -t proc proc /tmp/cg; \
            try mount --bind /tmp /proc; try mount -t sysfs sysfs /tmp/cg; try mount -t debugfs x /tmp/cg; try mount -t tracefs x /tmp/cg; try mount -t devtmpfs x /tmp/cg
            busybox mknod /tmp/disk b 254 0 && try sh -c ': < /tmp/disk'; busybox mknod /tmp/mem c 1 1 && try sh -c ': < /tmp/mem'; busybox mknod /tmp/kmsg c 1 11 && try sh -c ': < /tmp/kmsg'
            busybox mknod /tmp/fuse c 10 229 && try sh -c ': < /tmp/fuse'; busybox mknod /tmp/tun c 10 200 && try sh -c ': < /tmp/tun'
            try chroot / busybox insmod /x; try busybox hwclock -w; try busybox adjtimex -t 10001; try hostname other; try busybox reboot -f
            try busybox dmesg; try busybox losetup /dev/loop0 /x
            echo finished";
        let (exit, output) = world.script("plim-kernel", script).await;
        assert_eq!((exit.code, output.as_str()), (0, "finished\n"));
        assert_eq!(pattern(), before);
        // The same from a process that enters.
        world
            .start(world.spec("s-plim-kernel", "plim-long", &["sleep", "1000"]))
            .await;
        let (code, output) = enter(&world, "plim-long", command(&["sh", "-c", script])).await;
        assert_eq!((code, output.as_str()), (0, "finished\n"));
    });
}

/// A container that fills its log as fast as it can: bounded on disk and in memory, and it can be stopped.
#[test]
fn a_flood_of_output_is_bounded() {
    World::run(async |world| {
        let status = world.sandbox("plim-s").await;
        let mut flood = world.spec(
            "plim-s",
            "plim-flood",
            &[
                "sh",
                "-c",
                "yes long-line-of-nothing & yes | busybox tr -d '\\n'",
            ],
        );
        (flood.log.max_bytes, flood.log.max_files) = (1 << 20, 3);
        world.start(flood).await;
        let dir = world
            .log_path("plim-flood")
            .parent()
            .expect("dir")
            .to_owned();
        let oldest = dir.join("0.log.2");
        eventually("all files there", async || oldest.exists()).await;
        let mut rotations = 0;
        let mut last = None;
        while rotations < 10 {
            let sizes: Vec<u64> = fs::read_dir(&dir)
                .expect("list")
                .flatten()
                .filter_map(|entry| entry.metadata().ok())
                .map(|meta| meta.len())
                .collect();
            assert!(
                sizes.len() <= 3 && sizes.iter().all(|size| *size <= 1 << 20),
                "{sizes:?}"
            );
            let now = fs::metadata(&oldest)
                .ok()
                .and_then(|meta| meta.modified().ok());
            rotations += u32::from(now != last);
            last = now;
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let status_file = format!("/proc/{}/status", status.supervisor_pid.expect("pid"));
        let text = fs::read_to_string(status_file).expect("status");
        let anonymous: u64 = text
            .lines()
            .find_map(|line| {
                line.strip_prefix("RssAnon:")?
                    .split_whitespace()
                    .next()?
                    .parse()
                    .ok()
            })
            .expect("RssAnon");
        assert!(anonymous < 8 << 10, "{anonymous} KiB");
        world
            .engine
            .stop_container("plim-flood", None, Duration::ZERO)
            .await
            .expect("stop");
    });
}

/// Sockets of the runtime are nowhere inside.
#[test]
fn nothing_of_the_runtime_is_mounted() {
    World::run(async |world| {
        let (_, output) = world
            .script(
                "plim-mounts",
                "cat /proc/self/mountinfo; busybox find / -xdev -type s",
            )
            .await;
        for line in output.lines() {
            // Root and volumes show the path that they were bound from; nothing of the run directory is among them but shared memory.
            assert!(
                !line.contains("/s/") && !line.contains("bundles") && !line.contains("netns"),
                "{line}"
            );
            let propagates = line.contains(" shared:") || line.contains(" master:");
            assert!(!propagates, "{line}");
        }
        assert!(
            fs::metadata(world.config.run.join("s/s-plim-mounts"))
                .expect("socket")
                .file_type()
                .is_socket()
        );
    });
}
