//! A lane: one connected socket, on whose two ends one thread each speaks, one at a time, as in a call: a request, what
//! is asked back meanwhile, the answer. And the control line between both processes, over which lanes are handed.

use std::io::{self, ErrorKind, Read, Write};
use std::mem::{size_of, zeroed};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::Duration;

use super::wire::{HEAD, Message};

/// Bytes that are read at once.
const INBOX: usize = 64 << 10;
/// Bytes of a message.
pub const LARGEST: u64 = 1 << 30;
/// How long a read may wait before who waits is asked whether it still wants to.
const FIRST_LOOK: Duration = Duration::from_millis(4);
const LATER_LOOKS: libc::c_int = 100;
/// No two looks are further apart, but where the process did not run.
pub const LOOKS: Duration = FIRST_LOOK.saturating_add(Duration::from_millis(LATER_LOOKS as u64));

/// Why nothing more comes.
#[derive(Debug)]
pub enum Lost {
    /// The other side is gone, or made no sense.
    Gone,
    /// Whoever waited does not want to any more.
    GivenUp,
}

/// One end.
pub struct Lane {
    /// By which both sides name it; 0 is none.
    pub number: u64,
    stream: Arc<UnixStream>,
    inbox: Box<[u64]>,
    /// Bytes in the inbox.
    have: usize,
    large: Option<Large>,
}

/// A message that the inbox cannot hold, as far as it has come.
struct Large {
    what: u64,
    words: Vec<u64>,
    /// Bytes of the whole.
    length: usize,
    /// Bytes that have come.
    done: usize,
}

impl Large {
    fn begun(what: u64, length: usize, inbox: &[u64], done: usize) -> Large {
        let mut words = vec![0; (done + INBOX).min(length) / 8];
        let begun = done.div_ceil(8);
        words[..begun].copy_from_slice(&inbox[HEAD / 8..HEAD / 8 + begun]);
        Large { what, words, length, done }
    }
}

impl Lane {
    pub fn new(number: u64, stream: UnixStream) -> Lane {
        Lane { number, stream: Arc::new(stream), inbox: vec![0; INBOX / 8].into_boxed_slice(), have: 0, large: None }
    }

    /// Both ends of a new one; reads on the first look up now and then.
    pub fn pair(number: u64) -> io::Result<(Lane, OwnedFd)> {
        let (ours, theirs) = UnixStream::pair()?;
        ours.set_read_timeout(Some(FIRST_LOOK))?;
        Ok((Lane::new(number, ours), theirs.into()))
    }

    /// Ends the lane from any thread, by `shutdown`.
    pub fn stream(&self) -> &Arc<UnixStream> {
        &self.stream
    }

    /// Whether its descriptor is open still: a plugin that closes all of them closes this one too, and nobody may again.
    pub fn is_open(&self) -> bool {
        // SAFETY: it touches nothing.
        unsafe { libc::fcntl(self.stream.as_raw_fd(), libc::F_GETFD) >= 0 }
    }

    pub fn send(&mut self, message: &[u8]) -> Result<(), Lost> {
        if message.len() as u64 > LARGEST {
            return Err(Lost::Gone);
        }
        (&*self.stream).write_all(message).map_err(|_| Lost::Gone)
    }

    /// The next message. While nothing comes, `goes_on` is asked every now and then; one that was given up can be received
    /// again.
    pub fn receive(&mut self, mut goes_on: impl FnMut() -> bool) -> Result<Message, Lost> {
        while self.large.is_none() {
            if self.have < HEAD {
                self.fill(&mut goes_on)?;
                continue;
            }
            let (length, what) = (self.inbox[0], self.inbox[1]);
            if length > LARGEST || length % 8 != 0 {
                return Err(Lost::Gone);
            }
            let length = length as usize;
            if length > INBOX - HEAD {
                self.large = Some(Large::begun(what, length, &self.inbox, self.have - HEAD));
                self.have = 0;
            } else if self.have < HEAD + length {
                self.fill(&mut goes_on)?;
            } else {
                let end = HEAD + length;
                let words = self.inbox[HEAD / 8..end / 8].to_vec();
                if self.have > end {
                    as_bytes(&mut self.inbox).copy_within(end..self.have, 0);
                }
                self.have -= end;
                return Ok(Message::of(what, words));
            }
        }
        while let Some(large) = &mut self.large {
            if large.done == large.length {
                break;
            }
            // As much memory is taken as has come.
            if large.done + INBOX / 2 > large.words.len() * 8 {
                large.words.resize((large.words.len() * 2).min(large.length / 8), 0);
            }
            let bytes = as_bytes(&mut large.words);
            large.done += read(&self.stream, &mut bytes[large.done..], &mut goes_on)?;
        }
        self.large.take().map(|large| Message::of(large.what, large.words)).ok_or(Lost::Gone)
    }

    fn fill(&mut self, goes_on: &mut impl FnMut() -> bool) -> Result<(), Lost> {
        let bytes = as_bytes(&mut self.inbox);
        self.have += read(&self.stream, &mut bytes[self.have..], goes_on)?;
        Ok(())
    }
}

fn as_bytes(words: &mut [u64]) -> &mut [u8] {
    // SAFETY: words are bytes.
    unsafe { std::slice::from_raw_parts_mut(words.as_mut_ptr().cast(), words.len() * 8) }
}

fn read(mut stream: &UnixStream, into: &mut [u8], goes_on: &mut impl FnMut() -> bool) -> Result<usize, Lost> {
    loop {
        match stream.read(into) {
            Ok(0) => return Err(Lost::Gone),
            Ok(count) => return Ok(count),
            Err(error) => match error.kind() {
                ErrorKind::Interrupted => {}
                ErrorKind::WouldBlock | ErrorKind::TimedOut => {
                    if !goes_on() {
                        return Err(Lost::GivenUp);
                    }
                    await_any(&[stream.as_raw_fd()], LATER_LOOKS);
                }
                _ => return Err(Lost::Gone),
            },
        }
    }
}

/// Waits until there is something to read at one of them, at most so many milliseconds; says where there is.
pub fn await_any<const N: usize>(sockets: &[RawFd; N], millis: libc::c_int) -> [bool; N] {
    let mut polled = sockets.map(|fd| libc::pollfd { fd, events: libc::POLLIN, revents: 0 });
    // SAFETY: the array has that length.
    let ready = unsafe { libc::poll(polled.as_mut_ptr(), N as libc::nfds_t, millis) };
    polled.map(|one| ready > 0 && one.revents != 0)
}

/// One end of the control line: packets of a few words, each with a file descriptor or none.
pub struct Control(OwnedFd);

/// Words of a packet.
pub const PACKET: usize = 4;

impl Control {
    pub fn pair() -> io::Result<(Control, OwnedFd)> {
        let mut fds = [0; 2];
        // SAFETY: there is room for two.
        let made =
            unsafe { libc::socketpair(libc::AF_UNIX, libc::SOCK_SEQPACKET | libc::SOCK_CLOEXEC, 0, fds.as_mut_ptr()) };
        if made != 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: both were just made, and belong to nobody else.
        unsafe { Ok((Control(OwnedFd::from_raw_fd(fds[0])), OwnedFd::from_raw_fd(fds[1]))) }
    }

    pub fn from(fd: OwnedFd) -> Control {
        Control(fd)
    }

    pub fn fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }

    /// Both sides hear that there will be no more.
    pub fn shutdown(&self) {
        // SAFETY: the descriptor is open. One that was shut down before stays so.
        unsafe { libc::shutdown(self.fd(), libc::SHUT_RDWR) };
    }

    pub fn send(&self, words: [u64; PACKET], passed: Option<&OwnedFd>) -> io::Result<()> {
        let mut part = libc::iovec { iov_base: words.as_ptr().cast_mut().cast(), iov_len: size_of::<[u64; PACKET]>() };
        // Room for the head of a control message and a descriptor, aligned as the head must be.
        let mut room = [0_u64; 8];
        // SAFETY: all zero is an empty head; what it leads to lives until the call returns, and there is room enough.
        let sent = unsafe {
            let mut head: libc::msghdr = zeroed();
            head.msg_iov = &mut part;
            head.msg_iovlen = 1;
            if let Some(fd) = passed {
                head.msg_control = room.as_mut_ptr().cast();
                head.msg_controllen = libc::CMSG_SPACE(size_of::<RawFd>() as u32) as _;
                let control = libc::CMSG_FIRSTHDR(&head);
                (*control).cmsg_level = libc::SOL_SOCKET;
                (*control).cmsg_type = libc::SCM_RIGHTS;
                (*control).cmsg_len = libc::CMSG_LEN(size_of::<RawFd>() as u32) as _;
                libc::CMSG_DATA(control).cast::<RawFd>().write_unaligned(fd.as_raw_fd());
            }
            libc::sendmsg(self.fd(), &head, libc::MSG_NOSIGNAL)
        };
        if sent < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }

    /// The next packet; `None` at the end, or when the other side makes no sense.
    pub fn receive(&self) -> Option<([u64; PACKET], Option<OwnedFd>)> {
        let mut words = [0_u64; PACKET];
        let mut part = libc::iovec { iov_base: words.as_mut_ptr().cast(), iov_len: size_of::<[u64; PACKET]>() };
        let mut room = [0_u64; 8];
        loop {
            // SAFETY: as in `send`.
            unsafe {
                let mut head: libc::msghdr = zeroed();
                head.msg_iov = &mut part;
                head.msg_iovlen = 1;
                head.msg_control = room.as_mut_ptr().cast();
                head.msg_controllen = std::mem::size_of_val(&room) as _;
                let came = libc::recvmsg(self.fd(), &mut head, libc::MSG_CMSG_CLOEXEC);
                if came < 0 && io::Error::last_os_error().kind() == ErrorKind::Interrupted {
                    continue;
                }
                let control = if came < 0 { std::ptr::null_mut() } else { libc::CMSG_FIRSTHDR(&head) };
                let passed = (!control.is_null()
                    && (*control).cmsg_type == libc::SCM_RIGHTS
                    && (*control).cmsg_len as usize >= libc::CMSG_LEN(size_of::<RawFd>() as u32) as usize)
                    .then(|| OwnedFd::from_raw_fd(libc::CMSG_DATA(control).cast::<RawFd>().read_unaligned()));
                return (came == size_of::<[u64; PACKET]>() as isize).then_some((words, passed));
            }
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::super::wire::Writer;
    use super::*;

    fn pair() -> (Lane, Lane) {
        let (one, other) = Lane::pair(3).unwrap();
        (one, Lane::new(3, UnixStream::from(other)))
    }

    #[test]
    fn messages_of_every_length_arrive() {
        let (mut one, mut other) = pair();
        let lengths = [0, 8, 4096, INBOX - HEAD - 8, INBOX - HEAD, INBOX, 3 * INBOX, 1 << 20];
        let sending = std::thread::spawn(move || {
            for length in lengths.iter().cycle().take(40) {
                let mut writer = Writer::new(*length as u64);
                writer.append(&vec![7; *length]);
                other.send(writer.finish()).unwrap();
            }
        });
        for length in lengths.iter().cycle().take(40) {
            let mut message = one.receive(|| true).unwrap();
            assert_eq!(message.what, *length as u64);
            let rest = message.read().rest();
            assert_eq!((rest.len(), rest.iter().all(|byte| *byte == 7)), (*length, true));
        }
        sending.join().unwrap();
        assert!(matches!(one.receive(|| true), Err(Lost::Gone)));
    }

    #[test]
    fn who_waits_may_stop_and_nonsense_ends_a_lane() {
        let (mut one, mut other) = pair();
        assert!(matches!(one.receive(|| false), Err(Lost::GivenUp)));
        other.send(&[255; 64]).unwrap();
        assert!(matches!(one.receive(|| true), Err(Lost::Gone)));
    }

    #[test]
    fn a_lane_can_be_handed_over() {
        let (control, theirs) = Control::pair().unwrap();
        let child = Control::from(theirs);
        let (mut lane, end) = Lane::pair(5).unwrap();
        control.send([1, 5, 0, 0], Some(&end)).unwrap();
        drop(end);
        let (words, passed) = child.receive().unwrap();
        assert_eq!(words, [1, 5, 0, 0]);
        Lane::new(5, UnixStream::from(passed.unwrap())).send(Writer::new(9).finish()).unwrap();
        assert_eq!(lane.receive(|| true).unwrap().what, 9);
        child.send([2, 0, 0, 0], None).unwrap();
        assert!(control.receive().unwrap().1.is_none());
        drop(child);
        assert!(control.receive().is_none());
    }
}
