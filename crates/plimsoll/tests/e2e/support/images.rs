//! Instances with the images that most tests need: `busybox:static` and `my-web-app:latest`.

use std::sync::{Arc, Mutex, PoisonError};

use super::{Instance, Root, Run, repository};

static SHARED: Mutex<Option<Arc<Instance>>> = Mutex::new(None);

/// A new instance with both images.
#[track_caller]
pub fn with_images() -> Instance {
    let instance = Instance::up();
    instance
        .plimsoll("import /bin/busybox busybox:static --busybox")
        .ok();
    let example = repository("examples/web-app");
    instance
        .docker(&format!("build -q -t my-web-app {}", example.display()))
        .ok();
    instance
}

/// The one instance of all tests that do not stop or fill it. Each keeps to a namespace and to names of its own.
pub fn shared() -> Arc<Instance> {
    let mut shared = SHARED
        .lock()
        .expect("the shared instance did not start; the first failure tells why");
    shared
        .get_or_insert_with(|| Arc::new(with_images()))
        .clone()
}

/// Builds `NAME:e2e` of `tests/clients/NAME` and of what scripts/clients has gathered for it.
#[track_caller]
pub fn client_image(instance: &Instance, name: &str) {
    let context = Root::scratch();
    let folder = repository("crates/plimsoll/tests/clients").join(name);
    let gathered = repository("target/clients").join(name).join("root.tar");
    let (folder, gathered) = (folder.display(), gathered.display());
    Run::new(
        "cp",
        &format!("-r {folder}/. {gathered} {}", context.display()),
    )
    .ok();
    instance
        .docker(&format!("build -q -t {name}:e2e {}", context.display()))
        .ok();
    // it is large
    let _ = std::fs::remove_dir_all(&context);
}

/// Gathers this program (see `stand_in`) and the libraries that it is linked to.
const GATHER: &str = r#"set -e
mkdir "$2/root" && strip -o "$2/root/stand-in" "$1"
ldd "$1" | { grep -o '/[^ ]*' || true; } | while read -r library; do
    install -D -m 755 "$(readlink -f "$library")" "$2/root$library"
done"#;

/// Makes `stand-in:e2e`, busybox with a server for what pods are asked by probes: see `stand_in`.
#[track_caller]
pub fn stand_in_image(instance: &Instance) {
    static MAKING: Mutex<()> = Mutex::new(());
    // a test that failed here is no reason for the next one not to try
    let _making = MAKING.lock().unwrap_or_else(PoisonError::into_inner);
    if instance.docker("image inspect stand-in:e2e").ran().code == 0 {
        return;
    }
    let context = Root::scratch();
    let program = std::env::current_exe().expect("this program");
    Run::new("sh", "-c")
        .argument(GATHER)
        .argument("gather")
        .argument(&program.to_string_lossy())
        .argument(&context.to_string_lossy())
        .ok();
    let dockerfile = "FROM busybox:static\nCOPY root /\nENTRYPOINT [\"/stand-in\", \"stand-in\"]\n";
    std::fs::write(context.join("Dockerfile"), dockerfile).expect("written");
    instance
        .docker(&format!("build -q -t stand-in:e2e {}", context.display()))
        .ok();
    // it is large
    let _ = std::fs::remove_dir_all(&context);
}

/// Removes the shared instance after the last test.
pub fn remove_shared() {
    let shared = SHARED.lock().ok().and_then(|mut shared| shared.take());
    if let Some(instance) = shared {
        Arc::into_inner(instance)
            .expect("every test has ended")
            .purge();
    }
}
