//! Instructions as data; words are not expanded yet.

/// A parsed file.
#[derive(Clone, Debug)]
pub(crate) struct Dockerfile {
    pub escape: char,
    /// ARG instructions before the first FROM.
    pub arguments: Vec<Step>,
    pub stages: Vec<Stage>,
    pub warnings: Vec<String>,
}

#[derive(Clone, Debug)]
pub(crate) struct Stage {
    pub line: usize,
    pub text: String,
    pub image: String,
    pub name: Option<String>,
    pub platform: Option<String>,
    pub steps: Vec<Step>,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Step {
    pub line: usize,
    /// As written, on one line.
    pub text: String,
    pub kind: Kind,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Kind {
    Run {
        command: Form,
        /// Heredocs in the order of their marks in the command.
        scripts: Vec<Script>,
        flags: Vec<Flag>,
    },
    Cmd(Form),
    Entrypoint(Form),
    Env(Vec<(String, String)>),
    Label(Vec<(String, String)>),
    Arg(Vec<(String, Option<String>)>),
    Workdir(String),
    Copy(Copy),
    Expose(Vec<String>),
    User(String),
    Volume(Vec<String>),
    StopSignal(String),
    Healthcheck {
        flags: Vec<Flag>,
        command: Option<Form>,
    },
    /// The trigger's text and the trigger, for its checks.
    Onbuild(String),
    Maintainer(String),
    Shell(Vec<String>),
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Form {
    Exec(Vec<String>),
    Shell(String),
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Flag {
    pub name: String,
    pub value: Option<String>,
}

/// A heredoc.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Script {
    pub name: String,
    pub content: String,
    pub expand: bool,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Copy {
    pub add: bool,
    pub flags: Vec<Flag>,
    pub sources: Vec<Source>,
    pub destination: String,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Source {
    Path(String),
    Inline(Script),
}
