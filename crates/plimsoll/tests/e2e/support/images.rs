//! Instances with the images that most tests need: `busybox:static` and `my-web-app:latest`.

use std::sync::{Arc, Mutex};

use super::{Instance, repository};

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

/// Removes the shared instance after the last test.
pub fn remove_shared() {
    let shared = SHARED.lock().ok().and_then(|mut shared| shared.take());
    if let Some(instance) = shared {
        Arc::into_inner(instance)
            .expect("every test has ended")
            .purge();
    }
}
