//! The loop over stages and steps.

use engine::runner::Runner;
use futures::future::BoxFuture;
use tokio::sync::mpsc;

use super::scope::Globals;
use super::stage::StageState;
use super::{BuildError, BuildEvent, BuildRequest, plan, shell};
use crate::archive::import::blocking;
use crate::dockerfile::ignore::IgnorePatterns;
use crate::dockerfile::parse;
use crate::dockerfile::step::{Dockerfile, Kind, Step};
use crate::images::Images;
use crate::model::{Image, Platform};
use crate::store::Store;
use crate::store::cache::CacheRecord;
use crate::store::names::local_tag;
use crate::unpack::confine::{Links, Root};

/// Steps told so far, and in all as far as they are known.
struct Count {
    number: usize,
    total: usize,
}

pub(super) struct Executor<'a> {
    pub images: &'a Images,
    pub request: BuildRequest,
    pub runner: &'a dyn Runner,
    pub file: Dockerfile,
    pub globals: Globals,
    pub ignore: IgnorePatterns,
    /// Finished stages by index.
    pub stages: Vec<Option<StageState>>,
    progress: mpsc::Sender<BuildEvent>,
    tags: Vec<String>,
}

impl<'a> Executor<'a> {
    pub fn new(
        images: &'a Images,
        request: BuildRequest,
        runner: &'a dyn Runner,
        progress: mpsc::Sender<BuildEvent>,
    ) -> Result<Self, BuildError> {
        // A bad name must not show after an hour of building.
        let tags = request
            .tags
            .iter()
            .map(|t| local_tag(t))
            .collect::<Result<_, _>>()?;
        let (text, ignore) = read_context(&request)?;
        let file = parse::parse(&text)?;
        let mut globals = Globals::new(&request, file.escape);
        for step in &file.arguments {
            if let Kind::Arg(pairs) = &step.kind {
                for (name, default) in pairs {
                    globals
                        .declare(name, default.as_deref())
                        .map_err(|e| fail(step, e))?;
                }
            }
        }
        let stages = vec![None; file.stages.len()];
        Ok(Executor {
            images,
            request,
            runner,
            file,
            globals,
            ignore,
            stages,
            progress,
            tags,
        })
    }

    pub fn store(&self) -> &Store {
        &self.images.store
    }

    pub async fn tell(&self, event: BuildEvent) {
        // Nobody listening is no reason to stop.
        let _ = self.progress.send(event).await;
    }

    pub async fn build(mut self) -> Result<Image, BuildError> {
        let images = self.images.clone();
        let _busy = images.store.busy();
        let result = self.run().await;
        // Steps that succeeded are kept for the next attempt.
        if result.is_err()
            && let Err(error) = blocking(|| self.store().flush())
        {
            tracing::warn!(%error, "build cache not written");
        }
        result
    }

    async fn run(&mut self) -> Result<Image, BuildError> {
        for warning in self.file.warnings.clone() {
            self.tell(BuildEvent::Warning(warning)).await;
        }
        let bases = self
            .file
            .stages
            .iter()
            .map(|s| {
                self.globals
                    .expand(&s.image)
                    .map_err(|e| instruction_error(s.line, &s.text, e))
            })
            .collect::<Result<Vec<_>, _>>()?;
        let target = plan::target(&self.file, self.request.target.as_deref())?;
        let order = plan::needed(&self.file, &bases, target);
        let steps = order.iter().map(|i| self.file.stages[*i].steps.len() + 1);
        let mut count = Count {
            number: 0,
            total: steps.sum::<usize>() + usize::from(!self.request.labels.is_empty()),
        };
        for index in order {
            self.build_stage(index, &bases, &mut count).await?;
        }
        let mut state = self.stages[target].take().unwrap_or_default();
        if !self.request.labels.is_empty() {
            let pairs = self.request.labels.clone().into_iter().collect::<Vec<_>>();
            let words: Vec<String> = pairs.iter().map(|(k, v)| format!("{k}={v}")).collect();
            let step = Step {
                line: 0,
                text: format!("LABEL {}", words.join(" ")),
                kind: Kind::Label(Vec::new()),
            };
            self.announce(&step.text, &mut count).await;
            state.file.config.labels.extend(pairs);
            self.metadata_done(&mut state, &step, &step.text).await;
        }
        self.warn_unused(&state).await;
        let image = blocking(|| {
            self.store()
                .add_image(&state.file, None, &self.tags, None, true)
        })?;
        self.tell(BuildEvent::Built {
            id: image.id.clone(),
        })
        .await;
        for tag in &self.tags {
            self.tell(BuildEvent::Tagged { tag: tag.clone() }).await;
        }
        Ok(image)
    }

    async fn warn_unused(&self, last: &StageState) {
        let used = |name: &str| {
            last.scope.is_declared(name)
                || self
                    .stages
                    .iter()
                    .flatten()
                    .any(|s| s.scope.is_declared(name))
        };
        let unused: Vec<&str> = self.globals.unused(&used).collect();
        if !unused.is_empty() {
            let text = format!("One or more build-args {unused:?} were not consumed");
            self.tell(BuildEvent::Warning(text)).await;
        }
    }

    /// Builds a stage unless it is built, after those that triggers of its base take files from.
    fn build_stage<'b>(
        &'b mut self,
        index: usize,
        bases: &'b [String],
        count: &'b mut Count,
    ) -> BoxFuture<'b, Result<(), BuildError>> {
        Box::pin(async move {
            if self.stages[index].is_some() {
                return Ok(());
            }
            let (state, triggers) = self.start(index, &bases[index], count).await?;
            for source in plan::references(&self.file, index, &triggers) {
                for needed in plan::needed(&self.file, bases, source) {
                    if self.stages[needed].is_none() {
                        count.total += self.file.stages[needed].steps.len() + 1;
                        self.build_stage(needed, bases, count).await?;
                    }
                }
            }
            let state = self.finish(index, state, &triggers, count).await?;
            self.stages[index] = Some(state);
            Ok(())
        })
    }

    /// A stage's base, and the steps that it has triggers for.
    async fn start(
        &self,
        index: usize,
        base: &str,
        count: &mut Count,
    ) -> Result<(StageState, Vec<Step>), BuildError> {
        let stage = &self.file.stages[index];
        self.announce(&stage.text, count).await;
        let mut state = match plan::named_before(&self.file, index, base) {
            Some(earlier) => {
                let mut state = self.stages[earlier].clone().unwrap_or_default();
                // Its arguments are known here as well.
                state.own_cmd = false;
                state
            }
            None => {
                let platform = match &stage.platform {
                    None => self.request.platform.clone(),
                    Some(text) => {
                        let bad = |e| instruction_error(stage.line, &stage.text, e);
                        let text = self.globals.expand(text).map_err(bad)?;
                        let platform = Platform::parse(&text);
                        Some(platform.ok_or_else(|| {
                            bad(format!("{text:?} is no platform such as linux/amd64"))
                        })?)
                    }
                };
                self.base(base, platform).await?
            }
        };
        self.tell(BuildEvent::StepDone { id: state.short() }).await;
        let triggers = std::mem::take(&mut state.file.config.on_build);
        if !triggers.is_empty() {
            self.tell(BuildEvent::Warning(format!(
                "# Executing {} build triggers",
                triggers.len()
            )))
            .await;
        }
        let triggers = triggers
            .iter()
            .map(|text| parse::parse_trigger(text, stage.line))
            .collect::<Result<_, _>>()?;
        Ok((state, triggers))
    }

    async fn finish(
        &self,
        index: usize,
        mut state: StageState,
        triggers: &[Step],
        count: &mut Count,
    ) -> Result<StageState, BuildError> {
        for step in triggers {
            self.step(index, &mut state, step).await?;
        }
        for step in &self.file.stages[index].steps {
            self.announce(&step.text, count).await;
            self.step(index, &mut state, step).await?;
        }
        Ok(state)
    }

    async fn announce(&self, text: &str, count: &mut Count) {
        count.number += 1;
        self.tell(BuildEvent::Step {
            number: count.number,
            total: count.total,
            text: text.to_owned(),
        })
        .await;
    }

    async fn step(
        &self,
        index: usize,
        state: &mut StageState,
        step: &Step,
    ) -> Result<(), BuildError> {
        match &step.kind {
            Kind::Run {
                command,
                scripts,
                flags,
            } => {
                let argv = shell::argv(command, scripts, &state.file.config.shell);
                self.run_step(index, state, step, argv, flags).await?;
            }
            Kind::Copy(copy) => self.copy_step(index, state, step, copy).await?,
            Kind::Workdir(path) => self.workdir_step(state, step, path).await?,
            _ => {
                let canonical = self.metadata(state, step).map_err(|e| fail(step, e))?;
                self.metadata_done(state, step, &canonical).await;
            }
        }
        self.tell(BuildEvent::StepDone { id: state.short() }).await;
        Ok(())
    }

    /// Ends a step that adds no layer.
    pub(super) async fn metadata_done(&self, state: &mut StageState, step: &Step, canonical: &str) {
        let key = state.key(&[canonical]);
        let record = match self.lookup(&key).await {
            Some(record) => record,
            None => self.remember(&key, None),
        };
        state.apply(step, &key, &record, String::new());
    }

    /// What this step gave last time, told to the listener.
    pub(super) async fn lookup(&self, key: &str) -> Option<CacheRecord> {
        if self.request.no_cache {
            return None;
        }
        let record = self.store().cached(key)?;
        self.tell(BuildEvent::Cached).await;
        Some(record)
    }

    pub(super) fn remember(&self, key: &str, layer: Option<String>) -> CacheRecord {
        let record = CacheRecord::new(layer, jiff::Timestamp::now().to_string());
        self.store().remember(key, record.clone());
        record
    }
}

/// The Dockerfile's text and the context's ignore patterns.
fn read_context(request: &BuildRequest) -> Result<(String, IgnorePatterns), BuildError> {
    let root = Root::open(&request.context, Links::InRoot)?;
    let read = |path: &str| root.text(path.trim_start_matches('/').as_ref(), 8 << 20);
    let path = if request.dockerfile.is_empty() {
        "Dockerfile"
    } else {
        &request.dockerfile
    };
    let text = match &request.dockerfile_text {
        Some(text) => text.clone(),
        None => read(path).ok_or_else(|| {
            BuildError::Request(format!(
                "Cannot locate specified Dockerfile: {path} is not in the build context"
            ))
        })?,
    };
    let own = read(&format!("{path}.dockerignore"));
    let patterns = own.or_else(|| read(".dockerignore")).unwrap_or_default();
    let ignore = IgnorePatterns::parse(&patterns).map_err(BuildError::Request)?;
    Ok((text, ignore))
}

pub(super) fn fail(step: &Step, reason: String) -> BuildError {
    instruction_error(step.line, &step.text, reason)
}

fn instruction_error(line: usize, text: &str, reason: String) -> BuildError {
    BuildError::Instruction {
        line,
        instruction: text.chars().take(200).collect(),
        reason,
    }
}
