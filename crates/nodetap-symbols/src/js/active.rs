//! The functions that are active at a place in optimized code.

use std::rc::Rc;

use nodetap_profile::Position;

use super::functions::FunctionInfo;

/// A function that is active at a place in optimized code.
#[derive(Clone, Debug)]
pub struct ActiveFunction {
    /// Which it is.
    pub function: Rc<FunctionInfo>,
    /// Where in it; absent where that is not certain.
    pub position: Option<Position>,
}

impl ActiveFunction {
    /// `function` at the UTF-16 unit `script_offset` of its script.
    pub fn new(function: Rc<FunctionInfo>, script_offset: Option<u32>) -> ActiveFunction {
        ActiveFunction {
            position: function.locate(script_offset),
            function,
        }
    }

    fn is_same_function(&self, other: &ActiveFunction) -> bool {
        Rc::ptr_eq(&self.function, &other.function)
            || (self.function.id.is_some() && self.function.id == other.function.id)
    }
}

/// What two stacks, outermost first, that a place may have say both: where
/// they part, the function that is still the same has no certain position,
/// but may have a line.
pub fn common(mut one: Vec<ActiveFunction>, other: &[ActiveFunction]) -> Vec<ActiveFunction> {
    let mut agreed = 0;
    for (mine, theirs) in one.iter_mut().zip(other) {
        if !mine.is_same_function(theirs) {
            break;
        }
        agreed += 1;
        if mine.position != theirs.position {
            mine.position = match (mine.position, theirs.position) {
                (Some(mine), Some(theirs)) if mine.line == theirs.line => Some(Position {
                    column: None,
                    ..mine
                }),
                _ => None,
            };
            break;
        }
    }
    one.truncate(agreed);
    one
}

#[cfg(test)]
mod tests {
    use super::*;
    use nodetap_v8::FunctionId;

    fn functions() -> [Rc<FunctionInfo>; 3] {
        [1, 2, 3].map(|literal| {
            Rc::new(FunctionInfo {
                id: Some(FunctionId { script: 7, literal }),
                name: "f".into(),
                script: None,
                start: None,
                end: None,
                text: None,
            })
        })
    }

    fn stack(
        functions: &[Rc<FunctionInfo>],
        of: &[(usize, Option<(u32, u32)>)],
    ) -> Vec<ActiveFunction> {
        of.iter()
            .map(|&(index, position)| ActiveFunction {
                function: functions[index].clone(),
                position: position.and_then(|(line, column)| Position::new(line, column)),
            })
            .collect()
    }

    fn told(stack: &[ActiveFunction]) -> Vec<(i32, Option<(u32, u32)>)> {
        let number = |position: Position| {
            let column = position.column.map_or(0, |column| column.get());
            (position.line.get(), column)
        };
        stack
            .iter()
            .map(|active| {
                let id = active.function.id.expect("all have one");
                (id.literal, active.position.map(number))
            })
            .collect()
    }

    #[test]
    fn what_both_say_is_kept() {
        let f = functions();
        let one = || {
            stack(
                &f,
                &[(0, Some((1, 5))), (1, Some((3, 9))), (2, Some((4, 1)))],
            )
        };
        assert_eq!(told(&common(one(), &one())), told(&one()));
        let other = stack(&f, &[(0, Some((1, 5))), (1, Some((3, 2))), (2, None)]);
        assert_eq!(
            told(&common(one(), &other)),
            [(1, Some((1, 5))), (2, Some((3, 0)))]
        );
        let other = stack(&f, &[(0, Some((1, 5))), (1, Some((4, 9)))]);
        assert_eq!(told(&common(one(), &other)), [(1, Some((1, 5))), (2, None)]);
        let other = stack(&f, &[(0, Some((1, 5))), (2, Some((3, 9)))]);
        assert_eq!(told(&common(one(), &other)), [(1, Some((1, 5)))]);
        let other = stack(&f, &[(0, Some((1, 5)))]);
        assert_eq!(told(&common(one(), &other)), [(1, Some((1, 5)))]);
        assert!(common(one(), &[]).is_empty());
    }
}
