// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity ^0.8.30;

import {Ownable, Ownable2Step} from "@openzeppelin/contracts/access/Ownable2Step.sol";
import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";
import {SafeERC20} from "@openzeppelin/contracts/token/ERC20/utils/SafeERC20.sol";
import {ReentrancyGuardTransient} from "@openzeppelin/contracts/utils/ReentrancyGuardTransient.sol";
import {ECDSA} from "@openzeppelin/contracts/utils/cryptography/ECDSA.sol";
import {EIP712} from "@openzeppelin/contracts/utils/cryptography/EIP712.sol";

/// @title One-way payment channels: one deposit, any number of vouchers, any ERC-20.
/// @notice A voucher is a signed running total; the last one replaces all before it. What stays true:
///  1. the contract holds at least the sum of `deposit - settled` over all open channels, per token;
///  2. `settled <= deposit`, and `settled` only rises;
///  3. a closed id is never reborn, so no old voucher is ever worth anything again;
///  4. what a payer gets back and what was paid out equal what was deposited.
contract Channels is EIP712, Ownable2Step, ReentrancyGuardTransient {
    using SafeERC20 for IERC20;

    /// @notice A channel. `payer` is zero when there is none.
    struct Channel {
        address payer;
        uint96 deposit;
        address signer;
        uint96 settled;
        address payee;
        /// When anyone may close it, Unix seconds; 0 while nobody asked; `GRAVE` once closed.
        uint64 closeAt;
        /// The fee at opening stands for the channel's whole life.
        uint16 feeBps;
        address token;
    }

    /// @notice What `open` takes.
    struct Opening {
        address payee;
        bytes32 node;
        IERC20 token;
        uint96 deposit;
        address signer;
        bytes32 salt;
    }

    /// @notice A voucher with its signature.
    struct Claim {
        bytes32 channel;
        uint96 cumulative;
        bytes signature;
    }

    /// @notice EIP-712 type of a voucher.
    bytes32 public constant VOUCHER_TYPEHASH = keccak256("Voucher(bytes32 channel,uint96 cumulative)");
    /// @notice The fee can never be set above this.
    uint16 public constant FEE_BPS_MAX = 1_000;
    /// @dev `closeAt` of a closed channel: its tombstone.
    uint64 private constant GRAVE = type(uint64).max;

    /// @notice Seconds between a payer's request to close and the close: the payee's time to cash its last voucher.
    uint64 public immutable GRACE_S;

    /// @notice The fee of channels opened from now on, in hundredths of a per cent.
    uint16 public feeBps;
    /// @notice Whom fees are paid to.
    address public feeRecipient;

    mapping(bytes32 channel => Channel) private channels;

    /// @notice A channel was opened.
    event Opened(
        bytes32 indexed channel, address indexed payer, address indexed payee,
        bytes32 node, address token, uint96 deposit, address signer
    );
    /// @notice A deposit was raised to `deposit` altogether.
    event ToppedUp(bytes32 indexed channel, uint96 deposit);
    /// @notice `value` was paid out, `fee` of it as fee; `settled` altogether.
    event Settled(bytes32 indexed channel, address indexed payee, uint96 settled, uint96 value, uint96 fee);
    /// @notice The payer asked to close.
    event CloseRequested(bytes32 indexed channel, uint64 closeAt);
    /// @notice A channel was closed and `refund` returned to the payer.
    event Closed(bytes32 indexed channel, uint96 refund);
    /// @notice The fee was changed for channels to come.
    event FeeSet(uint16 feeBps, address recipient);

    error ZeroAddress();
    error FeeTooHigh(uint16 feeBps);
    error IdUsed(bytes32 channel);
    error NoChannel(bytes32 channel);
    error AlreadyClosing(bytes32 channel);
    error NotPayer(bytes32 channel);
    error TooEarly(bytes32 channel, uint64 closeAt);
    error BadSignature(bytes32 channel);
    /// @notice The token delivered another amount than asked for (it takes a fee on transfer, say).
    error WrongAmount(address token, uint256 expected, uint256 received);

    constructor(address owner, address feeRecipient_, uint16 feeBps_, uint64 graceS)
        EIP712("Gleaner", "1")
        Ownable(owner)
    {
        GRACE_S = graceS;
        _setFee(feeBps_, feeRecipient_);
    }

    /// @notice Changes the fee of channels to come and the recipient of all fees.
    function setFee(uint16 feeBps_, address recipient) external onlyOwner {
        _setFee(feeBps_, recipient);
    }

    /// @notice The id that `payer` would get: bound to this chain, this contract, the payer and every argument.
    function idOf(address payer, Opening calldata o) public view returns (bytes32) {
        return keccak256(
            abi.encode(block.chainid, address(this), payer, o.payee, o.node, o.token, o.deposit, o.signer, o.salt)
        );
    }

    /// @notice The EIP-712 digest that the channel's signer signs.
    function voucherDigest(bytes32 channel, uint96 cumulative) public view returns (bytes32) {
        return _hashTypedDataV4(keccak256(abi.encode(VOUCHER_TYPEHASH, channel, cumulative)));
    }

    /// @notice A channel; all zero but `closeAt` once it is closed.
    function get(bytes32 channel) external view returns (Channel memory) {
        return channels[channel];
    }

    /// @notice Opens a channel with the caller's tokens.
    function open(Opening calldata opening) external nonReentrant returns (bytes32) {
        return _open(opening);
    }

    /// @notice Opens several channels at once.
    function openMany(Opening[] calldata openings) external nonReentrant returns (bytes32[] memory ids) {
        ids = new bytes32[](openings.length);
        for (uint256 i = 0; i < openings.length; ++i) {
            ids[i] = _open(openings[i]);
        }
    }

    /// @notice Raises a deposit by `amount` of the caller's tokens. Whatever is left goes back to the payer.
    function topUp(bytes32 channel, uint96 amount) external nonReentrant {
        Channel storage c = _live(channel);
        if (c.closeAt != 0) revert AlreadyClosing(channel);
        uint96 deposit = c.deposit + amount;
        c.deposit = deposit;
        _take(IERC20(c.token), amount);
        emit ToppedUp(channel, deposit);
    }

    /// @notice Cashes vouchers; anyone may, the money goes to the payees. Stale claims are skipped, so one claim that
    /// somebody else cashed first spoils no batch; a wrong signature reverts it. A voucher above the deposit pays the
    /// deposit and can be cashed again after a top-up.
    function settle(Claim[] calldata claims) external nonReentrant {
        // Consecutive claims of one payee in one token leave in one transfer.
        address token;
        address payee;
        uint256 net;
        uint256 fees;
        for (uint256 i = 0; i < claims.length; ++i) {
            Channel storage c = channels[claims[i].channel];
            (uint96 value, uint96 fee) = _settle(c, claims[i]);
            if (value == 0) continue;
            if (c.token != token || c.payee != payee) {
                _pay(token, payee, net, fees);
                (token, payee, net, fees) = (c.token, c.payee, 0, 0);
            }
            net += value - fee;
            fees += fee;
        }
        _pay(token, payee, net, fees);
    }

    /// @notice The payer asks to close; after `GRACE_S` anyone may.
    function requestClose(bytes32 channel) external {
        Channel storage c = _live(channel);
        if (msg.sender != c.payer) revert NotPayer(channel);
        if (c.closeAt != 0) revert AlreadyClosing(channel);
        c.closeAt = uint64(block.timestamp) + GRACE_S;
        emit CloseRequested(channel, c.closeAt);
    }

    /// @notice Closes: the payee at any time, anyone once the grace after a request is over.
    function close(bytes32 channel) external nonReentrant {
        Channel storage c = _live(channel);
        (address payer, address token, uint64 closeAt) = (c.payer, c.token, c.closeAt);
        if (msg.sender != c.payee && (closeAt == 0 || block.timestamp < closeAt)) revert TooEarly(channel, closeAt);
        uint96 refund = c.deposit - c.settled;
        delete channels[channel];
        c.closeAt = GRAVE;
        if (refund != 0) IERC20(token).safeTransfer(payer, refund);
        emit Closed(channel, refund);
    }

    function _open(Opening calldata o) private returns (bytes32 id) {
        // A signer of zero could be matched by a failed recovery, a payee of zero could never be paid.
        if (o.payee == address(0) || o.signer == address(0)) revert ZeroAddress();
        id = idOf(msg.sender, o);
        Channel storage c = channels[id];
        if (c.payer != address(0) || c.closeAt != 0) revert IdUsed(id);
        (c.payer, c.deposit, c.signer, c.payee) = (msg.sender, o.deposit, o.signer, o.payee);
        (c.feeBps, c.token) = (feeBps, address(o.token));
        _take(o.token, o.deposit);
        emit Opened(id, msg.sender, o.payee, o.node, address(o.token), o.deposit, o.signer);
    }

    function _settle(Channel storage c, Claim calldata claim) private returns (uint96 value, uint96 fee) {
        (uint96 deposit, uint96 settled) = (c.deposit, c.settled);
        uint96 due = claim.cumulative < deposit ? claim.cumulative : deposit;
        if (due <= settled) return (0, 0);
        bytes32 digest = voucherDigest(claim.channel, claim.cumulative);
        (address signer, ECDSA.RecoverError e,) = ECDSA.tryRecoverCalldata(digest, claim.signature);
        if (e != ECDSA.RecoverError.NoError || signer != c.signer) revert BadSignature(claim.channel);
        c.settled = due;
        value = due - settled;
        fee = uint96((uint256(value) * c.feeBps) / 10_000);
        emit Settled(claim.channel, c.payee, due, value, fee);
    }

    function _pay(address token, address payee, uint256 net, uint256 fees) private {
        if (net != 0) IERC20(token).safeTransfer(payee, net);
        if (fees != 0) IERC20(token).safeTransfer(feeRecipient, fees);
    }

    function _take(IERC20 token, uint96 amount) private {
        uint256 before = token.balanceOf(address(this));
        token.safeTransferFrom(msg.sender, address(this), amount);
        uint256 received = token.balanceOf(address(this)) - before;
        if (received != amount) revert WrongAmount(address(token), amount, received);
    }

    function _live(bytes32 channel) private view returns (Channel storage c) {
        c = channels[channel];
        if (c.payer == address(0)) revert NoChannel(channel);
    }

    function _setFee(uint16 feeBps_, address recipient) private {
        if (recipient == address(0)) revert ZeroAddress();
        if (feeBps_ > FEE_BPS_MAX) revert FeeTooHigh(feeBps_);
        feeBps = feeBps_;
        feeRecipient = recipient;
        emit FeeSet(feeBps_, recipient);
    }
}
