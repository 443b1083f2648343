//! Rules as a BPF program of type `BPF_PROG_TYPE_CGROUP_DEVICE`: a pure function from rules to instructions.
//!
//! The kernel runs it with the address of a `bpf_cgroup_dev_ctx` in register 1 and takes register 0 for the answer: 1 allows, 0
//! refuses with EPERM. Sources: the kernel's `include/uapi/linux/bpf.h` and `Documentation/bpf/instruction-set`.

use super::{Access, Kind, Rule};

/// One instruction (`struct bpf_insn`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Instruction {
    code: u8,
    destination: u8,
    source: u8,
    offset: i16,
    immediate: i32,
}

const LOAD_WORD: u8 = 0x61;
const AND: u8 = 0x54;
const SHIFT_RIGHT: u8 = 0x74;
const COPY: u8 = 0xbc;
const SET: u8 = 0xb7;
const JUMP_UNLESS: u8 = 0x56;
const JUMP_UNLESS_SAME: u8 = 0x5e;
const EXIT: u8 = 0x95;

const ANSWER: u8 = 0;
const CONTEXT: u8 = 1;
const KIND: u8 = 2;
const ACCESS: u8 = 3;
const MAJOR: u8 = 4;
const MINOR: u8 = 5;

const KIND_BLOCK: i32 = 1;
const KIND_CHARACTER: i32 = 2;

/// The program that allows what some rule allows and refuses the rest.
pub fn of(rules: &[Rule]) -> Vec<Instruction> {
    let mut program = vec![
        // the first word holds the kind in its lower half and the access in its upper one
        load(KIND, 0),
        with_number(AND, KIND, 0xffff),
        load(ACCESS, 0),
        with_number(SHIFT_RIGHT, ACCESS, 16),
        load(MAJOR, 4),
        load(MINOR, 8),
    ];
    for rule in rules {
        program.extend(clause(rule));
    }
    program.extend(answer(0));
    program
}

/// Tests one after the other, each of which jumps behind the clause when it does not hold.
fn clause(rule: &Rule) -> Vec<Instruction> {
    let kind = match rule.kind {
        Kind::Block => KIND_BLOCK,
        Kind::Character => KIND_CHARACTER,
    };
    let mut clause = vec![with_number(JUMP_UNLESS, KIND, kind)];
    if rule.access != Access::ALL {
        // nothing else may be asked for; the context is not needed any more
        clause.extend([
            Instruction {
                code: COPY,
                destination: CONTEXT,
                source: ACCESS,
                offset: 0,
                immediate: 0,
            },
            with_number(AND, CONTEXT, i32::from(rule.access.0)),
            Instruction {
                code: JUMP_UNLESS_SAME,
                destination: CONTEXT,
                source: ACCESS,
                offset: 0,
                immediate: 0,
            },
        ]);
    }
    for (register, number) in [(MAJOR, rule.major), (MINOR, rule.minor)] {
        if let Some(number) = number {
            // compared as 32 bits: the sign does not matter
            clause.push(with_number(JUMP_UNLESS, register, number.cast_signed()));
        }
    }
    clause.extend(answer(1));
    let end = clause.len();
    for (place, instruction) in clause.iter_mut().enumerate() {
        if [JUMP_UNLESS, JUMP_UNLESS_SAME].contains(&instruction.code) {
            // counted from the instruction that follows; a clause has ten at most
            instruction.offset = (end - place - 1) as i16;
        }
    }
    clause
}

fn answer(value: i32) -> [Instruction; 2] {
    [with_number(SET, ANSWER, value), with_number(EXIT, 0, 0)]
}

fn load(register: u8, offset: i16) -> Instruction {
    Instruction {
        code: LOAD_WORD,
        destination: register,
        source: CONTEXT,
        offset,
        immediate: 0,
    }
}

fn with_number(code: u8, register: u8, immediate: i32) -> Instruction {
    Instruction {
        code,
        destination: register,
        source: 0,
        offset: 0,
        immediate,
    }
}

/// The instructions as the kernel reads them.
pub fn encode(program: &[Instruction]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(program.len() * 8);
    for instruction in program {
        let (low, high) = if cfg!(target_endian = "little") {
            (instruction.destination, instruction.source)
        } else {
            (instruction.source, instruction.destination)
        };
        bytes.extend([instruction.code, high << 4 | low]);
        bytes.extend(instruction.offset.to_ne_bytes());
        bytes.extend(instruction.immediate.to_ne_bytes());
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::super::DEFAULT;
    use super::*;
    use proptest::prelude::*;

    const READ: u32 = 2;
    const WRITE: u32 = 4;
    const MAKE: u32 = 1;

    /// Runs a program as the kernel would; a register that was never written may not be read.
    fn run(program: &[Instruction], context: [u32; 3]) -> bool {
        let mut registers: [Option<u32>; 6] = [None; 6];
        let mut next = 0;
        for _ in 0..10_000 {
            let instruction = program[next];
            next += 1;
            let (to, from) = (
                usize::from(instruction.destination),
                usize::from(instruction.source),
            );
            let number = instruction.immediate.cast_unsigned();
            let mut jump = false;
            match instruction.code {
                LOAD_WORD => {
                    assert_eq!(instruction.source, CONTEXT);
                    registers[to] = Some(context[instruction.offset as usize / 4]);
                }
                AND => registers[to] = Some(registers[to].expect("written") & number),
                SHIFT_RIGHT => registers[to] = Some(registers[to].expect("written") >> number),
                COPY => registers[to] = Some(registers[from].expect("written")),
                SET => registers[to] = Some(number),
                JUMP_UNLESS => jump = registers[to].expect("written") != number,
                JUMP_UNLESS_SAME => {
                    jump = registers[to].expect("written") != registers[from].expect("written");
                }
                EXIT => return registers[0].expect("written") == 1,
                other => panic!("unknown instruction {other:#x}"),
            }
            if jump {
                assert!(instruction.offset > 0, "forward only");
                next += instruction.offset as usize;
            }
        }
        panic!("it does not end");
    }

    fn asks(kind: Kind, major: u32, minor: u32, access: u32) -> [u32; 3] {
        let kind = match kind {
            Kind::Block => 1,
            Kind::Character => 2,
        };
        [access << 16 | kind, major, minor]
    }

    /// What the rules mean, said plainly.
    fn meant(rules: &[Rule], kind: Kind, major: u32, minor: u32, access: u32) -> bool {
        rules.iter().any(|rule| {
            rule.kind == kind
                && rule.major.is_none_or(|number| number == major)
                && rule.minor.is_none_or(|number| number == minor)
                && access & !u32::from(rule.access.0) == 0
        })
    }

    #[test]
    fn the_default_allows_what_it_says() {
        let program = of(&DEFAULT);
        let rows = [
            ("null", Kind::Character, 1, 3, READ | WRITE, true),
            ("null is made", Kind::Character, 1, 3, MAKE, true),
            ("a terminal", Kind::Character, 136, 77, READ | WRITE, true),
            ("the multiplexer", Kind::Character, 5, 2, READ | WRITE, true),
            ("memory", Kind::Character, 1, 1, READ, false),
            ("the kernel's log", Kind::Character, 1, 11, READ, false),
            ("tun", Kind::Character, 10, 200, READ | WRITE, false),
            ("fuse", Kind::Character, 10, 229, READ, false),
            ("a disk is made", Kind::Block, 254, 0, MAKE, true),
            ("a disk is read", Kind::Block, 254, 0, READ, false),
            (
                "a disk is made and read",
                Kind::Block,
                254,
                0,
                MAKE | READ,
                false,
            ),
            (
                "a disk with the number of null",
                Kind::Block,
                1,
                3,
                READ,
                false,
            ),
            ("the console", Kind::Character, 5, 1, WRITE, false),
        ];
        for (name, kind, major, minor, access, allowed) in rows {
            assert_eq!(
                run(&program, asks(kind, major, minor, access)),
                allowed,
                "{name}"
            );
        }
    }

    #[test]
    fn without_rules_everything_is_refused() {
        assert!(!run(&of(&[]), asks(Kind::Character, 1, 3, MAKE)));
    }

    #[test]
    fn bytes_are_the_kernels() {
        let load = load(MINOR, 8);
        if cfg!(target_endian = "little") {
            assert_eq!(encode(&[load]), [0x61, 0x15, 8, 0, 0, 0, 0, 0]);
            let jump = Instruction {
                offset: 2,
                ..with_number(JUMP_UNLESS, MAJOR, 136)
            };
            assert_eq!(encode(&[jump]), [0x56, 0x04, 2, 0, 136, 0, 0, 0]);
        }
    }

    fn any_kind() -> impl Strategy<Value = Kind> {
        prop_oneof![Just(Kind::Block), Just(Kind::Character)]
    }

    fn any_rule() -> impl Strategy<Value = Rule> {
        let number = || prop::option::of(prop_oneof![0u32..4, any::<u32>()]);
        let access = (1u8..8).prop_map(Access);
        (any_kind(), number(), number(), access).prop_map(|(kind, major, minor, access)| Rule {
            kind,
            major,
            minor,
            access,
        })
    }

    proptest! {
        #[test]
        fn the_program_means_what_the_rules_mean(
            rules in prop::collection::vec(any_rule(), 0..12),
            kind in any_kind(), major in 0u32..5, minor in 0u32..5, access in 1u32..8,
        ) {
            prop_assert_eq!(run(&of(&rules), asks(kind, major, minor, access)), meant(&rules, kind, major, minor, access));
        }
    }
}
