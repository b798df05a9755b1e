//! The linker: puts each file of `shaders/` before those that import it.

use std::borrow::Cow;
use std::collections::HashSet;

use super::Specialization;
use crate::op::Op;

macro_rules! modules {
    ($($path:literal),+ $(,)?) => {
        &[$(($path, include_str!(concat!("../../shaders/", $path, ".wgsl")))),+]
    };
}

/// The files by their paths, except those of operations.
const MODULES: &[(&str, &str)] = modules![
    "lib/arguments",
    "lib/bounds",
    "lib/broadcast",
    "lib/convert",
    "lib/dispatch",
    "lib/element",
    "lib/exact",
    "lib/exponential",
    "lib/exponential_below",
    "lib/factors",
    "lib/float_code",
    "lib/gradient",
    "lib/integer",
    "lib/mask",
    "lib/no_factors",
    "lib/params",
    "lib/philox",
    "lib/reduce_params",
    "lib/rule",
    "lib/scale_params",
    "lib/softfloat",
    "probe",
    "reduce",
    "scale",
    "user",
];

/// The module that is replaced in each composition.
const CONSTANTS: &str = "lib/constants";

/// The file with this path.
pub(super) fn module(path: &str) -> Option<&'static str> {
    let of_op = || Op::ALL.iter().find(|op| op.info().module == path).map(|op| op.info().shader);
    MODULES.iter().find(|(known, _)| *known == path).map(|(_, source)| *source).or_else(of_op)
}

/// What a kernel binds in group 0, and what a composition replaces in the files.
#[derive(Debug, Default)]
pub(crate) struct Interface<'a> {
    /// The binding number of the parameters.
    pub params: u32,
    /// The storage buffers by name, each with its number and whether it is read-only.
    pub buffers: Vec<(Cow<'a, str>, u32, bool)>,
    /// The entry point to be renamed to `main`.
    pub main: Option<&'a str>,
    /// Modules, and those linked instead.
    pub substitutes: &'a [(&'a str, &'a str)],
}

/// Numbers from here on are for buffers that a kernel does not use: those of other entry points of its file.
const UNUSED: u32 = 100;

/// The whole text of `root` after everything that it imports.
pub(crate) fn compose(root: &str, specialization: Specialization, interface: &Interface<'_>) -> String {
    let mut linker = Linker {
        text: specialization.constants(),
        seen: HashSet::from([CONSTANTS.to_owned()]),
        interface,
        unused: UNUSED,
    };
    linker.link(root);
    linker.text
}

struct Linker<'a> {
    text: String,
    /// Modules already in the text.
    seen: HashSet<String>,
    interface: &'a Interface<'a>,
    /// The number of the next unused buffer.
    unused: u32,
}

impl Linker<'_> {
    /// Appends a module after those that it imports, unless they are present.
    fn link(&mut self, source: &str) {
        let (imports, body) = imports(source);
        for path in imports {
            let substitute = self.interface.substitutes.iter().find(|(other, _)| *other == path);
            let own = substitute.map_or(&path[..], |(_, own)| own);
            if !self.seen.insert(own.to_owned()) {
                continue;
            }
            match module(own) {
                Some(imported) => self.link(imported),
                // Not a shader: the compiler's message quotes it.
                None => self.text.push_str(&format!("error: there is no module {path};\n")),
            }
        }
        for line in body.lines() {
            self.line(line);
            self.text.push('\n');
        }
    }

    /// Appends a line: a binding gets its number and access from the interface.
    fn line(&mut self, line: &str) {
        let main = self.interface.main.and_then(|main| line.strip_prefix("fn ")?.strip_prefix(main));
        if let Some(rest) = main.filter(|rest| rest.starts_with('(')) {
            self.text.push_str(&format!("fn main{rest}"));
            return;
        }
        let Some((space, name, item)) = declared(line) else { return self.text.push_str(line) };
        let bound = self.interface.buffers.iter().find(|(buffer, ..)| *buffer == name);
        let (number, space) = match (space, bound) {
            ("uniform", _) => (self.interface.params, space),
            (_, Some((_, number, true))) => (*number, "storage, read"),
            (_, Some((_, number, false))) => (*number, "storage, read_write"),
            (_, None) => {
                self.unused += 1;
                (self.unused, space)
            }
        };
        self.text.push_str(&format!("@group(0) @binding({number}) var<{space}> {name}: {item}"));
    }
}

/// The address space, the name and the type of a line's binding.
fn declared(line: &str) -> Option<(&str, &str, &str)> {
    let (space, rest) = line.strip_prefix("@group(0) @binding(")?.split_once("var<")?.1.split_once("> ")?;
    let (name, item) = rest.split_once(": ")?;
    Some((space, name, item))
}

/// The paths of the modules that a file imports, and the text after the last import.
fn imports(source: &str) -> (Vec<String>, &str) {
    let (mut paths, mut body) = (Vec::new(), source);
    while let Some(at) = body.find("import package::") {
        let (statement, rest) = body[at..].split_once(';').unwrap_or((&body[at..], ""));
        let names = statement.trim_start_matches("import package::");
        // The last part is a name, or several in braces.
        let module = names.split_once("::{").or_else(|| names.rsplit_once("::"));
        paths.extend(module.map(|(module, _)| module.replace("::", "/")));
        body = rest;
    }
    (paths, body)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ElementType;

    fn files() -> impl Iterator<Item = (&'static str, &'static str)> {
        let ops = Op::ALL.iter().map(|op| (op.info().module, op.info().shader));
        MODULES.iter().copied().chain(ops)
    }

    /// The names that a text uses, without those of fields and the paths of imports.
    fn names(text: &str) -> HashSet<&str> {
        let code = text.lines().filter(|line| !line.trim_start().starts_with("//"));
        let mut found = HashSet::new();
        for line in code {
            let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
            let mut at = 0;
            for name in line.split(|c| !is_name(c)) {
                let field = line[..at].ends_with('.') || line[at + name.len()..].starts_with(':');
                if !field {
                    found.insert(name);
                }
                at += name.len() + 1;
            }
        }
        found
    }

    fn names_declared(body: &str) -> HashSet<&str> {
        let mut found = HashSet::new();
        for line in body.lines() {
            let line = line.rsplit_once("var<uniform> ").map_or(line, |(_, name)| name);
            for keyword in ["fn ", "const ", "struct ", "params: "] {
                if let Some(name) = line.strip_prefix(keyword) {
                    let name = if keyword == "params: " { "params" } else { name };
                    found
                        .insert(name.split(|c: char| !c.is_ascii_alphanumeric() && c != '_').next().unwrap());
                }
            }
        }
        found
    }

    /// Every file imports exactly what it uses of others, so that people and editors can read it by itself.
    #[test]
    fn files_name_their_imports() {
        let mut wrong = Vec::new();
        let constants = include_str!("../../shaders/lib/constants.wgsl");
        let all: Vec<_> = files().chain([(CONSTANTS, constants)]).collect();
        for (path, source) in files() {
            let (_, body) = imports(source);
            let header = &source[..source.len() - body.len()];
            let (used, imported) = (names(body), names(header));
            for (other, text) in all.iter().filter(|(other, _)| *other != path) {
                for name in names_declared(imports(text).1) {
                    let local = names_declared(body).contains(name);
                    let (uses, imports) = (used.contains(name) && !local, imported.contains(name) && !local);
                    if uses != imports {
                        wrong.push(format!("{path}: {name} of {other}, used {uses}, imported {imports}"));
                    }
                }
            }
            for module in imports(source).0 {
                assert!(all.iter().any(|(known, _)| *known == module), "{path} imports {module}");
            }
        }
        assert!(wrong.is_empty(), "{wrong:#?}");
    }

    /// The file that stands for the constants declares each of them, with the values of f32.
    #[test]
    fn the_constants_are_those_of_the_file() {
        let file = include_str!("../../shaders/lib/constants.wgsl");
        let lines = |text: &str| -> Vec<(String, i64)> {
            let value = |text: &str| match text {
                "true" => 1,
                "false" => 0,
                hex if hex.starts_with("0x") => {
                    i64::from_str_radix(hex[2..].trim_end_matches('u'), 16).unwrap()
                }
                decimal => decimal.trim_end_matches('u').parse().unwrap(),
            };
            let consts = text.lines().filter(|line| line.starts_with("const "));
            let mut lines: Vec<_> = consts
                .map(|line| line.trim_end_matches(';').split_once(" = ").unwrap())
                .map(|(name, number)| (name.to_owned(), value(number)))
                .collect();
            lines.sort();
            lines
        };
        assert_eq!(lines(file), lines(&Specialization::of(ElementType::F32).constants()));
    }
}
