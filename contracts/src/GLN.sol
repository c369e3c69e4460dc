// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity ^0.8.30;

import {ERC20} from "@openzeppelin/contracts/token/ERC20/ERC20.sol";
import {ERC20Permit} from "@openzeppelin/contracts/token/ERC20/extensions/ERC20Permit.sol";
import {ERC20Votes} from "@openzeppelin/contracts/token/ERC20/extensions/ERC20Votes.sol";
import {Nonces} from "@openzeppelin/contracts/utils/Nonces.sol";
import {SafeTransferLib} from "solady/src/utils/SafeTransferLib.sol";

/// @title The native coin as an ERC-20, one for one, with permits and votes.
/// @notice Supply always equals the native coins that came in through here and have not left.
/// Coins forced in past `deposit` (a selfdestruct, a block reward) belong to nobody: supply never exceeds what is held.
contract GLN is ERC20, ERC20Permit, ERC20Votes {
    /// @notice Native coins were wrapped.
    event Deposited(address indexed holder, uint256 amount);
    /// @notice Tokens were turned back into native coins.
    event Withdrawn(address indexed holder, uint256 amount);

    constructor() ERC20("Gleaner", "GLN") ERC20Permit("Gleaner") {}

    /// @notice Wraps whatever is sent.
    receive() external payable {
        deposit();
    }

    /// @notice Wraps the native coins sent along.
    function deposit() public payable {
        _mint(msg.sender, msg.value);
        emit Deposited(msg.sender, msg.value);
    }

    /// @notice Burns the caller's tokens and sends as many native coins back.
    function withdraw(uint256 amount) external {
        _burn(msg.sender, amount);
        emit Withdrawn(msg.sender, amount);
        SafeTransferLib.safeTransferETH(msg.sender, amount);
    }

    /// @notice Votes are counted by time: several blocks may share a second, and a past second never changes.
    function clock() public view override returns (uint48) {
        return uint48(block.timestamp);
    }

    /// @notice EIP-6372.
    // solhint-disable-next-line func-name-mixedcase
    function CLOCK_MODE() public pure override returns (string memory) {
        return "mode=timestamp";
    }

    /// @inheritdoc ERC20Permit
    function nonces(address owner) public view override(ERC20Permit, Nonces) returns (uint256) {
        return super.nonces(owner);
    }

    function _update(address from, address to, uint256 amount) internal override(ERC20, ERC20Votes) {
        super._update(from, to, amount);
    }
}
