//! Commands in a running container: announced, started, asked about.

use std::collections::HashMap;
use std::collections::VecDeque;

use engine::{ExecSpec, Resizer};
use http::{Method, Request, StatusCode, header};
use hyper::body::Incoming;
use serde::Deserialize;
use serde_json::json;
use tokio::io::AsyncWriteExt as _;

use super::attach::{Wants, content_type, frame, nothing, serve, take_over, told};
use super::{Container, lifecycle};
use crate::query::Query;
use crate::record::null_default;
use crate::reply::{Answer, Refusal, empty, json_of, json_with, stream};
use crate::{Docker, body, names};

/// Announced commands beyond this push the oldest out.
const REMEMBERED_MAX: usize = 1024;

/// What is known of commands.
#[derive(Default)]
pub struct Execs {
    by_id: HashMap<String, Exec>,
    order: VecDeque<String>,
}

struct Exec {
    container: String,
    request: ExecRequest,
    started: bool,
    pid: Option<u32>,
    resizer: Option<Resizer>,
    code: Option<i32>,
}

#[derive(Clone, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
struct ExecRequest {
    attach_stdin: bool,
    attach_stdout: bool,
    attach_stderr: bool,
    tty: bool,
    privileged: bool,
    #[serde(deserialize_with = "null_default")]
    cmd: Vec<String>,
    #[serde(deserialize_with = "null_default")]
    env: Vec<String>,
    #[serde(deserialize_with = "null_default")]
    working_dir: String,
    #[serde(deserialize_with = "null_default")]
    user: String,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
struct Start {
    detach: bool,
}

pub async fn create(docker: &Docker, container: &Container, incoming: Incoming) -> Answer {
    let request: ExecRequest = body::json(incoming).await?;
    if request.cmd.is_empty() {
        return Err(Refusal::bad("No exec command specified"));
    }
    if !container.running() {
        return Err(Refusal::conflict(format!(
            "container {} is not running",
            container.id()
        )));
    }
    if container.paused() {
        return Err(Refusal::conflict(format!(
            "Container {} is paused, unpause the container before exec",
            container.id()
        )));
    }
    let id = names::id();
    let exec = Exec {
        container: container.id().to_owned(),
        request,
        started: false,
        pid: None,
        resizer: None,
        code: None,
    };
    let mut execs = docker.inner.execs.lock();
    if execs.order.len() >= REMEMBERED_MAX
        && let Some(oldest) = execs.order.pop_front()
    {
        execs.by_id.remove(&oldest);
    }
    execs.order.push_back(id.clone());
    execs.by_id.insert(id.clone(), exec);
    drop(execs);
    json_with(StatusCode::CREATED, &json!({ "Id": id }))
}

pub async fn request(
    docker: Docker,
    method: &Method,
    id: &str,
    action: &str,
    query: &Query,
    request: Request<Incoming>,
) -> Answer {
    let unknown = || Refusal::not_found(format!("No such exec instance: {id}"));
    match (method, action) {
        (&Method::GET, "json") => {
            let execs = docker.inner.execs.lock();
            let exec = execs.by_id.get(id).ok_or_else(unknown)?;
            json_of(&json!({
                "ID": id, "ContainerID": exec.container, "Running": exec.started && exec.code.is_none(), "ExitCode": exec.code,
                "Pid": exec.pid.unwrap_or(0), "OpenStdin": exec.request.attach_stdin, "OpenStdout": exec.request.attach_stdout,
                "OpenStderr": exec.request.attach_stderr, "CanRemove": false, "DetachKeys": "",
                "ProcessConfig": {
                    "tty": exec.request.tty, "entrypoint": exec.request.cmd.first(), "arguments": exec.request.cmd.get(1..).unwrap_or_default(),
                    "privileged": exec.request.privileged,
                },
            }))
        }
        (&Method::POST, "resize") => {
            let (columns, rows) = lifecycle::size(query)?;
            let resizer = docker
                .inner
                .execs
                .lock()
                .by_id
                .get(id)
                .ok_or_else(unknown)?
                .resizer
                .clone();
            if let Some(resizer) = resizer {
                resizer.resize(columns, rows).await?;
            }
            empty(StatusCode::OK)
        }
        (&Method::POST, "start") => {
            let upgrade_target = {
                let mut execs = docker.inner.execs.lock();
                let exec = execs.by_id.get_mut(id).ok_or_else(unknown)?;
                if exec.started {
                    return Err(Refusal::conflict(format!(
                        "exec {id} has already been started"
                    )));
                }
                exec.started = true;
                (exec.container.clone(), exec.request.clone())
            };
            let (container, wanted) = upgrade_target;
            let upgrade = request.headers().contains_key(header::UPGRADE);
            let (parts, incoming) = request.into_parts();
            let start: Start = body::json(incoming).await?;
            let mut request = Request::from_parts(parts, ());
            let spec = ExecSpec {
                argv: wanted.cmd.clone(),
                env: wanted.env.clone(),
                cwd: wanted.working_dir.clone(),
                user: wanted.user.clone(),
                tty: wanted.tty,
                stdin: wanted.attach_stdin,
                privileged: wanted.privileged,
            };
            let mut process = match docker.inner.engine.exec(&container, spec).await {
                Ok(process) => process,
                Err(error) => {
                    let code = error.start_code().unwrap_or(126);
                    note(&docker, id, |exec| exec.code = Some(code));
                    let why = format!("OCI runtime exec failed: {error}");
                    if start.detach {
                        return Err(Refusal::bad(why));
                    }
                    // who is attached reads it where the output would be, and asks for the code
                    let text = format!("{why}\r\n");
                    let said = match wanted.tty {
                        true => text.into(),
                        false => frame(1, text.as_bytes()),
                    };
                    if !upgrade {
                        let said = futures::stream::iter([said]);
                        return stream(content_type(wanted.tty), said);
                    }
                    return Ok(take_over(
                        &mut request,
                        wanted.tty,
                        move |connection| async move {
                            let (_, mut to) = tokio::io::split(connection);
                            let _ = to.write_all(&said).await;
                            let _ = to.shutdown().await;
                        },
                    ));
                }
            };
            let waiter = process.wait();
            note(&docker, id, |exec| {
                (exec.pid, exec.resizer) = (process.pid, Some(process.resizer()))
            });
            let (known, of) = (docker.clone(), id.to_owned());
            let ended = tokio::spawn(async move {
                let code = waiter.await.map_or(137, |status| status.code);
                note(&known, &of, |exec| {
                    (exec.code, exec.resizer) = (Some(code), None)
                });
            });
            if start.detach {
                process.stdin = None;
                tokio::spawn(async move { while process.output.recv().await.is_some() {} });
                return empty(StatusCode::OK);
            }
            let wants = Wants {
                stdout: wanted.attach_stdout,
                stderr: wanted.attach_stderr,
                tty: wanted.tty,
                own: true,
            };
            let ended = async {
                let _ = ended.await;
            };
            if !upgrade {
                return told(nothing(), process, wants, ended, async {});
            }
            Ok(take_over(&mut request, wanted.tty, move |connection| {
                serve(connection, nothing(), process, wants, ended)
            }))
        }
        _ => Err(Refusal::not_found(format!(
            "page not found: {method} /exec/{id}/{action}"
        ))),
    }
}

fn note(docker: &Docker, id: &str, change: impl FnOnce(&mut Exec)) {
    if let Some(exec) = docker.inner.execs.lock().by_id.get_mut(id) {
        change(exec);
    }
}
