//! Entering another network namespace: on a thread of its own, which ends there.

use std::fs::File;
use std::os::fd::AsFd;
use std::path::Path;

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::Error;

/// Opens the file that names a network namespace.
pub(crate) fn open(path: &Path) -> Result<File, Error> {
    File::open(path).map_err(|source| Error::Namespace {
        path: path.into(),
        source,
    })
}

/// Runs `work` in the namespace. What it opens (a netlink socket) stays in the namespace wherever it is used later, so
/// the thread is short-lived and never has to find its way back.
pub(crate) async fn within<T: Send + 'static>(
    namespace: &File,
    path: &Path,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Error> {
    let failed = |source| Error::Namespace {
        path: path.into(),
        source,
    };
    let namespace = namespace.try_clone().map_err(failed)?;
    let runtime = tokio::runtime::Handle::current();
    let (answer, answered) = tokio::sync::oneshot::channel();
    std::thread::Builder::new()
        .name("netns".into())
        .spawn(move || {
            let _runtime = runtime.enter();
            let result =
                move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network))
                    .map(|()| work());
            // The receiver is gone only when the caller was cancelled.
            let _ = answer.send(result);
        })
        .map_err(failed)?;
    answered
        .await
        .map_err(|_| failed(std::io::Error::other("the thread in it ended early")))?
        .map_err(|errno| failed(errno.into()))
}
