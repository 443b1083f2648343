//! FROM and `--from=IMAGE`: a stage's start, from an image here or in a registry.

use tokio::sync::mpsc;

use super::executor::Executor;
use super::stage::StageState;
use super::{BuildError, BuildEvent, DEFAULT_PATH};
use crate::model::{ConfigFile, Image, Platform};
use crate::reference::Reference;

impl Executor<'_> {
    /// State of a stage that starts from an image or from nothing.
    pub(super) async fn base(
        &self,
        name: &str,
        platform: Option<Platform>,
    ) -> Result<StageState, BuildError> {
        if name.is_empty() {
            return Err(BuildError::Request(
                "FROM: base name should not be blank: is an ARG without a value?".into(),
            ));
        }
        let mut stage = StageState::default();
        if name == "scratch" {
            let platform = platform.unwrap_or_else(Platform::host);
            stage.file = ConfigFile {
                architecture: platform.architecture,
                os: platform.os,
                variant: platform.variant,
                ..ConfigFile::default()
            };
            stage.file.config.env.push(DEFAULT_PATH.to_owned());
            stage.state = "scratch".into();
            return Ok(stage);
        }
        let image = self.image(name, platform).await?;
        stage.file = image.file;
        stage.state = image.id;
        Ok(stage)
    }

    /// An image that is here, or is fetched now.
    pub(super) async fn image(
        &self,
        name: &str,
        platform: Option<Platform>,
    ) -> Result<Image, BuildError> {
        let fits = |image: &Image| {
            platform
                .as_ref()
                .is_none_or(|p| p.os == image.os && p.architecture == image.architecture)
        };
        if !self.request.pull
            && let Some(image) = self.images.resolve(name).filter(fits)
        {
            return Ok(image);
        }
        let reference = Reference::parse(name)?;
        let auth = self.request.auth.get(&reference.registry).cloned();
        let (sender, mut receiver) = mpsc::channel(64);
        let pull = self.images.pull(name, auth, platform, sender);
        let forward = async {
            while let Some(event) = receiver.recv().await {
                self.tell(BuildEvent::Pull(event)).await;
            }
        };
        let (pulled, ()) = futures::join!(pull, forward);
        Ok(pulled?)
    }
}
