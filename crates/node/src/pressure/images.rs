//! Collects images while the disk is fuller than it should be, and remembers when each was used.

use std::sync::Arc;
use std::time::Duration;

use image::Freed;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::settings::Settings;
use super::signal::{Observation, Signal};
use super::{measure, message};
use crate::worker::Shared;

/// How often the disk is looked at.
const EVERY: Duration = Duration::from_secs(60);
/// After an attempt that freed too little, as long as the kubelet waits between two.
const HOLD_OFF: Duration = Duration::from_secs(300);

/// Runs until `shutdown`.
pub async fn run(shared: Arc<Shared>, shutdown: CancellationToken) {
    let mut tick = tokio::time::interval(EVERY);
    let (mut failed, mut not_before) = (false, Instant::now());
    loop {
        tokio::select! {
            () = shutdown.cancelled() => break,
            _ = tick.tick() => {}
        }
        remember(&shared).await;
        let settings = &shared.config.pressure;
        let observed = measure::observe(&shared).get(&Signal::ImageFs).copied();
        let Some(wanted) = observed.and_then(|disk| to_free(disk, settings)) else {
            failed = false;
            continue;
        };
        if Instant::now() < not_before {
            continue;
        }
        match collect(&shared, wanted).await {
            Ok(freed) if freed.busy || freed.bytes >= wanted => failed = false,
            Ok(freed) => {
                let message = format!(
                    "Failed to garbage collect required amount of images. Attempted to free {wanted} bytes, but only found {} bytes eligible to free.",
                    freed.bytes
                );
                let (recorder, node) = (&shared.recorder, &shared.config.name);
                recorder.node(node, "Warning", "FreeDiskSpaceFailed", message.clone());
                // upstream tells of the failure as such from the second in a row on
                if failed {
                    recorder.node(node, "Warning", "ImageGCFailed", message);
                }
                (failed, not_before) = (true, Instant::now() + HOLD_OFF);
            }
            Err(error) => {
                let (recorder, node) = (&shared.recorder, &shared.config.name);
                recorder.node(node, "Warning", "ImageGCFailed", error);
                (failed, not_before) = (true, Instant::now() + HOLD_OFF);
            }
        }
    }
    remember(&shared).await;
}

/// Deletes images that may go until so many bytes are free.
pub async fn collect(shared: &Shared, bytes: u64) -> Result<Freed, String> {
    let (images, age_min) = (
        shared.images.clone(),
        shared.config.pressure.image_gc_age_min,
    );
    let freeing = tokio::task::spawn_blocking(move || images.free_space(bytes, age_min));
    let freed = freeing
        .await
        .map_err(|error| error.to_string())?
        .map_err(|error| error.to_string())?;
    for (id, names) in &freed.images {
        tracing::info!(
            id,
            names = names.join(" "),
            "an image was deleted to make room on the disk"
        );
    }
    if freed.bytes > 0 {
        let bytes = i64::try_from(freed.bytes).unwrap_or(i64::MAX);
        tracing::info!(
            freed = message::quantity(bytes, true),
            "made room on the disk of images"
        );
    }
    Ok(freed)
}

/// Bytes to be freed so that no more than the lower share is used, once more than the higher one is.
fn to_free(disk: Observation, settings: &Settings) -> Option<u64> {
    if disk.capacity <= 0 || settings.image_gc_high_percent >= 100 {
        return None;
    }
    let (capacity, available) = (i128::from(disk.capacity), i128::from(disk.available));
    let used_percent = 100 - available * 100 / capacity;
    if used_percent < i128::from(settings.image_gc_high_percent) {
        return None;
    }
    let free = capacity * i128::from(100 - settings.image_gc_low_percent) / 100;
    u64::try_from(free - available)
        .ok()
        .filter(|bytes| *bytes > 0)
}

async fn remember(shared: &Shared) {
    let images = shared.images.clone();
    let written = tokio::task::spawn_blocking(move || images.remember_uses()).await;
    if let Ok(Err(error)) = written {
        tracing::debug!(%error, "when images were used could not be written down");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn so_much_that_the_lower_share_is_used() {
        let settings = Settings::default();
        for (available, want) in [
            (160, None),
            // whole percents, as upstream counts
            (159, Some(41)),
            (150, Some(50)),
            (0, Some(200)),
            (1000, None),
        ] {
            let disk = Observation {
                available,
                capacity: 1000,
            };
            assert_eq!(to_free(disk, &settings), want, "{available}");
            let off = Settings {
                image_gc_high_percent: 100,
                ..Settings::default()
            };
            assert_eq!(to_free(disk, &off), None);
        }
        let none = Observation {
            available: 0,
            capacity: 0,
        };
        assert_eq!(to_free(none, &settings), None);
    }
}
