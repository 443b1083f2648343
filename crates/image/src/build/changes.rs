//! Instructions for a configuration alone: `docker commit --change`, `docker import --change`.

use super::executor::fail;
use super::scope::Globals;
use super::stage::StageState;
use super::{BuildError, BuildRequest, metadata};
use crate::dockerfile::parse;
use crate::dockerfile::step::Kind;
use crate::model::{ConfigFile, ImageConfig};

/// A configuration after the instructions, one in each text. They are those that make no layer: CMD, ENTRYPOINT, ENV, EXPOSE,
/// HEALTHCHECK, LABEL, ONBUILD, STOPSIGNAL, USER, VOLUME and WORKDIR, which makes no directory here.
///
/// # Errors
/// [`BuildError::Syntax`], [`BuildError::Instruction`] for what cannot be done, or is another instruction.
pub fn apply_changes(
    config: ImageConfig,
    changes: &[impl AsRef<str>],
) -> Result<ImageConfig, BuildError> {
    let globals = Globals::new(&BuildRequest::default(), '\\');
    let mut stage = StageState {
        file: ConfigFile {
            config,
            ..ConfigFile::default()
        },
        ..StageState::default()
    };
    for text in changes {
        let step = parse::parse_trigger(text.as_ref(), 1)?;
        match &step.kind {
            Kind::Workdir(path) => {
                let env = &stage.file.config.env;
                let path = stage.scope.expand(&globals, env, path);
                stage.file.config.working_dir = stage.absolute(&path.map_err(|e| fail(&step, e))?);
            }
            Kind::Run { .. }
            | Kind::Copy(_)
            | Kind::Arg(_)
            | Kind::Maintainer(_)
            | Kind::Shell(_) => {
                let word = step.text.split_whitespace().next().unwrap_or("");
                return Err(fail(&step, format!("{word} is not a valid change command")));
            }
            _ => {
                metadata::apply(&globals, &mut stage, &step).map_err(|e| fail(&step, e))?;
            }
        }
    }
    Ok(stage.file.config)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_are_made_in_their_order() {
        let config = ImageConfig {
            env: vec!["A=1".into(), "B=2".into()],
            cmd: Some(vec!["old".into()]),
            working_dir: "/w".into(),
            ..ImageConfig::default()
        };
        let changes = [
            "ENV A=3 C=$B",
            "ENTRYPOINT [\"e\"]",
            "workdir sub",
            "EXPOSE 80",
            "LABEL l=\"x y\"",
            "USER nobody",
            "VOLUME /data",
            "ONBUILD RUN x",
            "STOPSIGNAL SIGINT",
            "HEALTHCHECK CMD true",
        ];
        let made = apply_changes(config.clone(), &changes).unwrap();
        assert_eq!(made.env, ["A=3", "B=2", "C=2"]);
        assert_eq!(made.entrypoint.as_deref(), Some(&["e".to_owned()][..]));
        assert_eq!(made.cmd, None, "it was the old entrypoint's");
        assert_eq!(made.working_dir, "/w/sub");
        assert!(made.exposed_ports.contains("80/tcp") && made.volumes.contains("/data"));
        assert_eq!(made.labels["l"], "x y");
        assert_eq!((made.user.as_str(), made.on_build.len()), ("nobody", 1));
        assert_eq!(made.stop_signal.as_deref(), Some("SIGINT"));
        assert_eq!(made.healthcheck.unwrap().test, ["CMD-SHELL", "true"]);
        let both = apply_changes(config, &["CMD x", "ENTRYPOINT [\"e\"]"]).unwrap();
        assert_eq!(both.cmd.unwrap(), ["/bin/sh", "-c", "x"]);
    }

    #[test]
    fn what_makes_layers_is_refused() {
        for text in [
            "RUN x",
            "COPY a b",
            "ADD a b",
            "ARG a",
            "SHELL [\"a\"]",
            "FROM x",
            "NOPE",
            "",
        ] {
            assert!(
                apply_changes(ImageConfig::default(), &[text]).is_err(),
                "{text}"
            );
        }
    }
}
