// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity ^0.8.30;

import {ERC721} from "@openzeppelin/contracts/token/ERC721/ERC721.sol";

/// @title Registered machines, one token each: who owns it, which node key it answers by, who operates it.
/// @notice A record alone proves nothing about a node: the chain cannot check node keys (ed25519). It counts only for
/// the node that names its machine id in its own signed offer, so registering somebody else's key gains nothing.
contract Machines is ERC721 {
    /// @notice The node key of a machine.
    mapping(uint256 id => bytes32) public nodeOf;
    /// @notice The machine of a node key; 0 for none.
    mapping(bytes32 nodeKey => uint256) public machineOf;
    /// @notice The account that acts for a machine day to day. It cannot sell it.
    mapping(uint256 id => address) public operatorOf;
    /// @notice Machines registered so far; also the last id, since ids start from 1.
    uint256 public count;

    /// @notice A machine was registered.
    event Registered(uint256 indexed id, bytes32 indexed nodeKey, address indexed owner, address operator);
    /// @notice A machine got another operator.
    event OperatorSet(uint256 indexed id, address indexed operator);

    /// @notice A node key of zeros is nobody's.
    error NoNodeKey();
    /// @notice The node key already has a machine.
    error NodeKeyTaken(bytes32 nodeKey, uint256 id);

    constructor() ERC721("Gleaner Machine", "GLNM") {}

    /// @notice Registers a machine for the caller.
    function register(bytes32 nodeKey, address operator) external returns (uint256 id) {
        if (nodeKey == 0) revert NoNodeKey();
        if (machineOf[nodeKey] != 0) revert NodeKeyTaken(nodeKey, machineOf[nodeKey]);
        id = ++count;
        nodeOf[id] = nodeKey;
        machineOf[nodeKey] = id;
        operatorOf[id] = operator;
        _mint(msg.sender, id);
        emit Registered(id, nodeKey, msg.sender, operator);
    }

    /// @notice Names another operator; for the owner or whom the owner approved.
    function setOperator(uint256 id, address operator) external {
        _checkAuthorized(_requireOwned(id), msg.sender, id);
        operatorOf[id] = operator;
        emit OperatorSet(id, operator);
    }
}
