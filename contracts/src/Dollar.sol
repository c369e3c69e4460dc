// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity ^0.8.30;

import {Ownable, Ownable2Step} from "@openzeppelin/contracts/access/Ownable2Step.sol";
import {ERC20} from "@openzeppelin/contracts/token/ERC20/ERC20.sol";
import {ERC20Permit} from "@openzeppelin/contracts/token/ERC20/extensions/ERC20Permit.sol";

/// @title gUSD: the unit of every price, deposit and payout.
/// @notice Minted by named minters, each under its own ceiling: a lost minter key costs at most what its ceiling leaves.
/// What stays true: `minted <= ceiling` when minting; supply never exceeds the sum of `minted` over all minters.
contract Dollar is ERC20, ERC20Permit, Ownable2Step {
    /// @notice One minter's account with us.
    struct Minter {
        /// The most that `minted` may be after a mint.
        uint96 ceiling;
        /// Minted and not burnt again by this minter.
        uint96 minted;
    }

    /// @notice All minters, also former ones.
    mapping(address minter => Minter) public minters;

    /// @notice A minter's ceiling was set; zero stops it.
    event CeilingSet(address indexed minter, uint96 ceiling);

    /// @notice The mint would have raised the minter above its ceiling.
    error CeilingExceeded(address minter, uint256 wanted, uint256 left);

    constructor(address owner) ERC20("Gleaner Dollar", "gUSD") ERC20Permit("Gleaner Dollar") Ownable(owner) {}

    /// @notice Lets `minter` have at most `ceiling` outstanding. Lowering it takes nothing back.
    function setCeiling(address minter, uint96 ceiling) external onlyOwner {
        minters[minter].ceiling = ceiling;
        emit CeilingSet(minter, ceiling);
    }

    /// @notice Mints under the caller's ceiling.
    function mint(address to, uint96 amount) external {
        Minter storage minter = minters[msg.sender];
        (uint256 ceiling, uint256 minted) = (minter.ceiling, minter.minted);
        uint256 left = ceiling > minted ? ceiling - minted : 0;
        if (amount > left) revert CeilingExceeded(msg.sender, amount, left);
        minter.minted = uint96(minted + amount);
        _mint(to, amount);
    }

    /// @notice Burns the caller's own. A minter who burns may mint as much again.
    function burn(uint96 amount) external {
        _burn(msg.sender, amount);
        Minter storage minter = minters[msg.sender];
        uint96 minted = minter.minted;
        if (minted != 0) minter.minted = amount < minted ? minted - amount : 0;
    }
}
