//! Expressions, read as upstream's environment reads them, with optional syntax (`self.?a`, `l[?0]`).

use kube_cel::cel::IdedExpr;
use kube_cel::cel::common::ast::{CallExpr, EntryExpr, Expr, LiteralValue, operators};
use kube_cel::cel::parser::Parser;

/// How deep an expression may nest.
const DEPTH_MAX: usize = 100;

/// How deep one may nest that is evaluated on the stack of any thread. A level takes up to 35 KB in a build without optimisation.
const SHALLOW: usize = 20;

/// Longest expression, in bytes.
pub(super) const BYTES_MAX: usize = 16 * 1024;

/// Stack for a reader, which goes as deep as there are operators in a row, a few kilobytes each in a build without optimisation.
/// What it does not touch takes no memory.
const STACK_BYTES: usize = 8 * 1024 * BYTES_MAX;

/// An expression that was read.
#[derive(Debug)]
pub(super) struct Expression {
    pub program: IdedExpr,
    /// Whether it needs a stack of its own ([`on_a_deep_stack`]).
    pub deep: bool,
}

/// Reads an expression. Errors are as the author is told them.
pub(super) fn parse(text: &str) -> Result<Expression, String> {
    if text.len() > BYTES_MAX {
        return Err(format!("expression is longer than {BYTES_MAX} bytes"));
    }
    on_a_deep_stack(|| read(text)).unwrap_or_else(|why| Err(why.to_owned()))
}

/// Does something that may go deep: as deep as an expression of the largest size and depth.
pub(super) fn on_a_deep_stack<T: Send>(work: impl FnOnce() -> T + Send) -> Result<T, &'static str> {
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new()
            .name("cel".to_owned())
            .stack_size(STACK_BYTES);
        let thread = thread
            .spawn_scoped(scope, work)
            .map_err(|_| "there is no thread to work on rules")?;
        thread.join().map_err(|_| "the work on rules failed")
    })
}

fn read(text: &str) -> Result<Expression, String> {
    let parser = Parser::default().enable_optional_syntax(true);
    let mut program = parser.parse(text).map_err(|error| error.to_string())?;
    let mut deepest = 0;
    settle(&mut program, 0, &mut deepest)?;
    Ok(Expression {
        program,
        deep: deepest > SHALLOW,
    })
}

/// Makes one way of asking for what may be missing of the two that there are, because the evaluator knows only the index, and
/// hands optionality on to what is selected of it. Says whether the expression is optional.
fn settle(expression: &mut IdedExpr, depth: usize, deepest: &mut usize) -> Result<bool, String> {
    *deepest = depth.max(*deepest);
    if depth > DEPTH_MAX {
        return Err(format!("expression nests deeper than {DEPTH_MAX}"));
    }
    let below = depth + 1;
    match &mut expression.expr {
        Expr::Call(call) => self::call(call, below, deepest),
        Expr::Select(select) => {
            let optional = settle(&mut select.operand, below, deepest)?;
            if optional {
                let field = IdedExpr {
                    id: expression.id,
                    expr: Expr::Literal(LiteralValue::String(select.field.as_str().into())),
                };
                let (operand, test) = (std::mem::take(&mut *select.operand), select.test);
                let index = function(operators::OPT_INDEX, None, vec![operand, field]);
                expression.expr = match test {
                    false => index,
                    true => {
                        let id = expression.id;
                        let target = IdedExpr { id, expr: index };
                        function("hasValue", Some(target), Vec::new())
                    }
                };
                return Ok(!test);
            }
            Ok(false)
        }
        Expr::Comprehension(inner) => {
            for part in [
                &mut inner.iter_range,
                &mut inner.accu_init,
                &mut inner.loop_cond,
                &mut inner.loop_step,
                &mut inner.result,
            ] {
                settle(part, below, deepest)?;
            }
            Ok(false)
        }
        Expr::List(list) => {
            for element in &mut list.elements {
                settle(element, below, deepest)?;
            }
            Ok(false)
        }
        Expr::Map(map) => {
            for entry in &mut map.entries {
                match &mut entry.expr {
                    EntryExpr::MapEntry(entry) => {
                        settle(&mut entry.key, below, deepest)?;
                        settle(&mut entry.value, below, deepest)?;
                    }
                    EntryExpr::StructField(_) => return Err("a map has keys".to_owned()),
                }
            }
            Ok(false)
        }
        // there are no messages here, whose types upstream does not find either
        Expr::Struct(made) => Err(format!(
            "undeclared reference to '{}' (in container '')",
            made.type_name
        )),
        Expr::Unspecified => Err("expression is empty".to_owned()),
        Expr::Ident(_) | Expr::Literal(_) => Ok(false),
    }
}

fn call(call: &mut CallExpr, below: usize, deepest: &mut usize) -> Result<bool, String> {
    let named = matches!(call.target.as_deref(), Some(IdedExpr { expr: Expr::Ident(name), .. }) if name == "optional");
    let target = match &mut call.target {
        Some(target) => settle(target, below, deepest)?,
        None => false,
    };
    let mut first = false;
    for (n, argument) in call.args.iter_mut().enumerate() {
        let optional = settle(argument, below, deepest)?;
        first |= n == 0 && optional;
    }
    Ok(match call.func_name.as_str() {
        operators::OPT_SELECT | operators::OPT_INDEX => {
            call.func_name = operators::OPT_INDEX.to_owned();
            true
        }
        operators::INDEX => first,
        "or" => target,
        "of" | "none" | "ofNonZeroValue" => named,
        "optional.of" | "optional.none" | "optional.ofNonZeroValue" => true,
        _ => false,
    })
}

fn function(name: &str, target: Option<IdedExpr>, args: Vec<IdedExpr>) -> Expr {
    Expr::Call(CallExpr {
        func_name: name.to_owned(),
        target: target.map(Box::new),
        args,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use kube_cel::cel::{Context, Value};

    #[test]
    fn what_has_no_meaning_is_refused() {
        for (text, why) in [
            ("Pod{name: 'x'} == self", "undeclared reference to 'Pod'"),
            ("self.a >", ""),
            ("", ""),
        ] {
            let error = parse(text).expect_err(text);
            assert!(error.contains(why), "{text}: {error}");
        }
    }

    /// Whatever can be read can be evaluated on the stack of a thread that serves requests.
    #[test]
    fn what_nests_deep_is_refused_or_evaluated() {
        let nested = |left: &str, right: &str, depth: usize| {
            format!("{}1{}", left.repeat(depth), right.repeat(depth))
        };
        let mut taken = 0;
        for (left, right) in [
            ("(", ")"),
            ("[", "]"),
            ("{'a': ", "}"),
            ("-(", ")"),
            ("1 + ", ""),
            ("", " + 1"),
            ("!", ""),
            ("true || ", " == 1"),
            ("true ? 1 : ", ""),
            ("size([", "])"),
            ("a", ".a"),
            ("", "[0]"),
            ("", ".map(x, x)"),
            ("[1].map(x, ", ")"),
            ("[1].all(x, ", " == 1)"),
        ] {
            // brackets are read slowly, and no deeper than a hundred
            let brackets = left.ends_with(['(', '[']) || right == "}";
            for depth in [20, 90, 200, BYTES_MAX / 2, 16_000] {
                if brackets && depth > 200 {
                    continue;
                }
                if let Ok(expression) = parse(&nested(left, right, depth)) {
                    taken += 1;
                    let evaluate = || {
                        let context = Context::default();
                        _ = Value::resolve(&expression.program, &context);
                    };
                    match expression.deep {
                        true => on_a_deep_stack(evaluate).expect("a thread"),
                        false => evaluate(),
                    }
                }
            }
        }
        assert!(taken > 14, "{taken}");
    }
}
