//! The engines of `peers.py`, which times itself: what is measured does not cross the pipe.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Lines, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::rc::Rc;
use std::time::Duration;

use anyhow::{Context, Result};
use wgclip_harness::{BenchId, Case};

/// How long the threads of an engine are left to fall asleep before another is measured: OpenMP's look out for work for
/// 4 ms, and would take a core from who comes next. No longer: from 40 ms of idleness on, a virtual machine puts the two
/// threads of whoever comes next on one core.
const CALM: Duration = Duration::from_millis(6);

/// A running `peers.py`.
#[derive(Clone)]
pub struct Python {
    pipe: Rc<RefCell<Pipe>>,
    engines: BTreeMap<String, String>,
}

struct Pipe {
    child: Child,
    to: ChildStdin,
    from: Lines<BufReader<ChildStdout>>,
}

impl Drop for Pipe {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Python {
    pub fn start(interpreter: &str, script: &str) -> Result<Self> {
        let mut child = Command::new(interpreter)
            .arg(script)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .with_context(|| format!("{interpreter} does not start"))?;
        let (to, from) = (child.stdin.take().context("no stdin")?, child.stdout.take().context("no stdout")?);
        let mut pipe = Pipe { child, to, from: BufReader::new(from).lines() };
        let engines = serde_json::from_str(&pipe.line()?)?;
        Ok(Self { pipe: Rc::new(RefCell::new(pipe)), engines })
    }

    /// The engines, and their versions.
    pub fn engines(&self) -> &BTreeMap<String, String> {
        &self.engines
    }

    /// The case of an engine, or `None` where it has no such thing.
    pub fn case(&self, what: BenchId) -> Result<Option<Case<'static>>> {
        let pipe = self.pipe.clone();
        let request = serde_json::json!({
            "engine": what.engine, "op": what.op, "kind": what.r#type, "elements": what.elements,
        });
        let ask = move |times: u32| pipe.borrow_mut().ask(&request, times);
        if ask(1)?.is_none() {
            return Ok(None);
        }
        let run = move |times| {
            let took = ask(times)?.context("it was there before")?;
            std::thread::sleep(CALM);
            Ok(took)
        };
        Ok(Some(Case { id: what, run: Box::new(run) }))
    }
}

impl Pipe {
    fn line(&mut self) -> Result<String> {
        Ok(self.from.next().context("peers.py ended: run it alone to see why")??)
    }

    fn ask(&mut self, request: &serde_json::Value, times: u32) -> Result<Option<Duration>> {
        let mut request = request.clone();
        request["times"] = times.into();
        writeln!(self.to, "{request}")?;
        let ns: Option<u64> = serde_json::from_str(&self.line()?)?;
        Ok(ns.map(Duration::from_nanos))
    }
}
