//! `NETLINK_GENERIC`: the list of its families, which has the controller only.

use super::message::{Answer, Request};
use crate::abi::{Errno, Result};

/// `GENL_ID_CTRL`, which is also the number of its group.
const CONTROLLER: u16 = 16;
const NAME: &[u8] = b"nlctrl\0";
/// Bytes of a `struct genlmsghdr`.
const HEAD: usize = 4;
/// `CTRL_CMD_NEWFAMILY`, `CTRL_CMD_GETFAMILY`, `CTRL_CMD_GETPOLICY`; the version of their answers.
const NEW_FAMILY: u8 = 1;
const GET_FAMILY: u8 = 3;
const GET_POLICY: u8 = 10;
const VERSION: u8 = 2;

/// `CTRL_ATTR_*`.
mod attr {
    pub const ID: u16 = 1;
    pub const NAME: u16 = 2;
    pub const VERSION: u16 = 3;
    pub const HEADER: u16 = 4;
    pub const MOST: u16 = 5;
    pub const OPS: u16 = 6;
    pub const GROUPS: u16 = 7;
}

/// Answers one request (`genl_rcv_msg`, `ctrl_getfamily`).
///
/// # Errors
/// `ENOENT` for a family that is not there, `EOPNOTSUPP`, `EINVAL`.
pub fn serve(request: &Request<'_>, answer: &mut Answer) -> Result {
    if request.kind != CONTROLLER {
        return Err(Errno::ENOENT);
    }
    let head = request.body().get(..HEAD).ok_or(Errno::EINVAL)?;
    if head[0] != GET_FAMILY {
        return Err(Errno::EOPNOTSUPP);
    }
    if !request.is_dump() {
        let id = request.attribute(HEAD, attr::ID);
        let name = request.attribute(HEAD, attr::NAME);
        let same = |n: &[u8]| n.split(|&b| b == 0).next() == NAME.split(|&b| b == 0).next();
        match (id, name) {
            (Some(id), None) if id.len() < 2 => return Err(Errno::EINVAL),
            (Some(id), None) if id[..2] == CONTROLLER.to_ne_bytes() => {}
            (_, Some(name)) if same(name) => {}
            (None, None) => return Err(Errno::EINVAL),
            _ => return Err(Errno::ENOENT),
        }
    }
    family(answer);
    Ok(())
}

fn family(answer: &mut Answer) {
    answer.begin(CONTROLLER, &[NEW_FAMILY, VERSION, 0, 0]);
    answer.add(attr::NAME, NAME);
    answer.add(attr::ID, &CONTROLLER.to_ne_bytes());
    answer.add_u32(attr::VERSION, u32::from(VERSION));
    answer.add_u32(attr::HEADER, 0);
    answer.add_u32(attr::MOST, u32::from(GET_POLICY));
    // `CTRL_ATTR_OP_ID`, `CTRL_ATTR_OP_FLAGS`: done once, dumped, checked by a policy.
    let number = |n: u8| u32::from(n).to_ne_bytes();
    answer.add_table(
        attr::OPS,
        &[&[(1, &number(GET_FAMILY)), (2, &number(0x0e))], &[(1, &number(GET_POLICY)), (2, &number(0x0c))]],
    );
    // `CTRL_ATTR_MCAST_GRP_ID`, `CTRL_ATTR_MCAST_GRP_NAME`.
    answer.add_table(attr::GROUPS, &[&[(2, &u32::from(CONTROLLER).to_ne_bytes()), (1, b"notify\0")]]);
}
