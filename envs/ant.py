"""The PyBullet ant at a constant ground friction."""

from cppo_envs.bullet_walker import BulletWalker
from cppo_envs.bullet_world import WalkerModel

ANT = WalkerModel(
    model_file="mjcf/ant.xml",
    feet=("front_left_foot", "front_right_foot", "left_back_foot", "right_back_foot"),
    torque=250.0,
    # The file gives all geoms conaffinity 0: the ant's legs pass through each other.
    self_collision=False,
    # 0.25 m is the radius of the torso: below that the ant lies on its belly.
    is_alive=lambda height, pitch: height > 0.26,
)


class FastAnt(BulletWalker):
    """The PyBullet ant, step for step ``AntBulletEnv-v0``, at about twice its speed.

    A four-legged robot with a round torso is to walk as fast as it can along x. One step is 0.0165 s, simulated in four
    substeps. Registered as ``FastAnt-v0``; ``SlipperyAnt-v0`` is this ant with changing friction.

    ## Actions: ``Box(-1, 1, (8,), float32)``

    | index | joint | joint type | value 1 means |
    |---|---|---|---|
    | 0, 1 | hip and ankle of the front left leg | hinge | a torque of 250 N m |
    | 2, 3 | hip and ankle of the front right leg | hinge | a torque of 250 N m |
    | 4, 5 | hip and ankle of the left back leg | hinge | a torque of 250 N m |
    | 6, 7 | hip and ankle of the right back leg | hinge | a torque of 250 N m |

    Torques of actions out of range are clipped; the cost of electricity counts the action as it was given. An action
    with NaN or infinity, or of another shape, raises a ValueError.

    ## Observations: ``Box(-5, 5, (28,), float32)``, each clipped to that range

    | index | observation | unit |
    |---|---|---|
    | 0 | height of the torso above that at the episode's start | m |
    | 1, 2 | sine and cosine of the angle from the heading to the target, a point 1 km away along x | - |
    | 3, 4, 5 | velocity of the torso, forward, left and up as the heading sees it | 0.3 per m/s |
    | 6, 7 | roll and pitch of the torso | rad |
    | 8, 10, ..., 22 | position of each joint in the order of the actions, its limits being -1 and 1 | - |
    | 9, 11, ..., 23 | velocity of each joint | 0.1 per rad/s |
    | 24, ..., 27 | 1 where the foot (front left, front right, left back, right back) touched the ground | - |

    The feet's contacts are those at the end of the *previous* step; they are 0 at the episode's start.

    ## Reward: the sum of

    | term | value | in ``info`` |
    |---|---|---|
    | alive | 1, or -1 when the torso's centre is at most 0.26 m high | ``reward_alive`` |
    | progress | decrease of the distance to the target over 0.0165 s: the speed in m/s | ``reward_progress`` |
    | electricity | -2 x mean abs(action x joint velocity / 10) - 0.1 x mean action squared | ``reward_electricity`` |
    | joint limits | -0.1 for each joint within 0.5 % of its range from a limit | ``reward_joint_limits`` |

    The ant's place is the mean over its 21 links and the ground (which stands at the origin), as in AntBulletEnv:
    progress is therefore 21/22 of the links' mean speed.

    ``info["x_position"]``, also in ``reset``, is how far the torso's centre has moved along x, in metres.

    ## Start and end of an episode

    The ant starts in the air, its torso 0.75 m high, at an angle of each joint drawn uniformly from [-0.1, 0.1] rad by
    ``self.np_random``; the ankles, whose range is from 0.52 to 1.75 rad away from straight, then bend by themselves.
    The episode terminates when the ant is not alive or an observation is not a number; ``gymnasium.make`` truncates
    it after 1000 steps.

    ## Arguments

    ``ground_friction=0.8``: Bullet multiplies the frictions of two touching bodies and clamps the product at 10. The
    ant's links have 1.5, so every ground friction above 6.67 is the same task. ``render_mode``: None, ``"rgb_array"``
    (on the CPU, no screen needed) or ``"human"`` (a window); ``width=320`` and ``height=240`` in pixels.
    ``model="original"``: the physics of AntBulletEnv-v0 to the last bit; ``"merged"``: the same body without its
    massless links (``envs/merged_model.py``), equal to rounding errors, and a step takes 28 % less time.

    ## Differences from ``AntBulletEnv-v0`` of ``pybullet_envs_gymnasium``

    Observations, rewards and ends of episodes are the same from that environment's second ``reset`` on. Its first one
    differs by 1e-7, since it has not yet gone back to its saved world, and in the first reward, since it has
    not yet counted the ground among the parts. Here every reset is as its later ones. The observation space has
    the limits that observations are clipped to, where the original's is unbounded; ``info`` is filled; ``render_fps``
    is that of the physics; an action that is not finite is a ValueError instead of a failed assertion.

    ## Version history

    * v0: first version.
    """

    model = ANT
